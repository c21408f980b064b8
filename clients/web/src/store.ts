// What this browser remembers. Storage may be forbidden: then it is forgotten with the page.

const forgotten = new Map<string, string>();

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(`weir.${name}`);
  } catch {
    return forgotten.get(name) ?? null;
  }
}

export function remember(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`weir.${name}`);
    else localStorage.setItem(`weir.${name}`, value);
  } catch {
    if (value === null) forgotten.delete(name);
    else forgotten.set(name, value);
  }
}
