// Playlists as a program reads them.
import HLS from 'hls-parser';

// A takeover cuts segments short, which makes the parser count more of them behind the edge than it thinks right.
HLS.setOptions({ silent: true });

export async function liveReady(node, channel) {
  const { streams } = await node.json('/api/streams');
  return streams.find((s) => s.channel === channel && s.ready);
}

/** A media playlist, parsed, with the names and figures that tests ask for. */
export async function mediaPlaylist(node, path) {
  const text = await (await node.get(path)).text();
  const parsed = HLS.parse(text);
  return {
    text,
    parsed,
    first: parsed.mediaSequenceBase,
    last: parsed.mediaSequenceBase + parsed.segments.length - 1,
    ended: parsed.endlist,
    uris: parsed.segments.map((s) => s.uri).filter(Boolean),
  };
}

export async function masterPlaylist(node, path) {
  const parsed = HLS.parse(await (await node.get(path)).text());
  return parsed.variants.map((v) => v.uri);
}
