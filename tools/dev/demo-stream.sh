#!/bin/bash
# demo-stream.sh URL...: a picture with a clock and a tone, streamed with the key in WEIR_STREAM_KEY, for ever. When the line
# breaks, the next URL is tried.
set -u
trap 'kill "${pid:-0}" 2>/dev/null; exit 0' TERM INT

# A slow gradient, drawn small and scaled up (cheap), a clock, and a dot that circles once in four seconds.
font=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
picture="gradients=size=160x90:rate=30:speed=0.008:x0=0:y0=0:x1=160:y1=90:nb_colors=4"
picture+=":c0=0x1b1f4b:c1=0x5b3fd6:c2=0x0fb5ae:c3=0x10243f,scale=1280x720:flags=bilinear"
picture+=",drawtext=fontfile=$font:text='%{localtime\\:%T}':fontsize=150:fontcolor=white"
picture+=":x=(w-tw)/2:y=(h-th)/2-20:shadowcolor=black@0.35:shadowx=4:shadowy=4"
picture+=",drawtext=fontfile=$font:text='Weir demo stream':fontsize=40:fontcolor=white@0.85"
picture+=":x=(w-tw)/2:y=h/2+90"
picture+=",drawtext=fontfile=$font:text='●':fontsize=46:fontcolor=white"
picture+=":x=w/2-20+480*cos(t*PI/2):y=h/2-30+270*sin(t*PI/2),format=yuv420p"

while :; do
    for url in "$@"; do
        ffmpeg -hide_banner -loglevel error -nostdin \
            -re -f lavfi -i "$picture" \
            -re -f lavfi -i "sine=frequency=220:sample_rate=48000,volume=0.15" \
            -c:v libx264 -preset superfast -tune zerolatency -b:v 1500k -maxrate 1800k \
            -bufsize 1500k -g 30 -keyint_min 30 -sc_threshold 0 -c:a aac -b:a 96k -ac 2 \
            -flush_packets 1 -f flv "$url/$WEIR_STREAM_KEY" &
        pid=$!
        wait $pid
        echo "demo stream to $url ended; next node"
        sleep 0.5
    done
done
