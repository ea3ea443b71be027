package preview

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io"

	"golang.org/x/image/webp"
)

// openWebP opens a picture, or the first frame of an animation.
func openWebP(f *file) (picture, error) {
	still, err := readWebP(f.rewind(false))
	if err != nil {
		return picture{}, err
	}
	frame, err := webp.DecodeConfig(still.file)
	if err != nil {
		return picture{}, err
	}
	p := picture{Config: frame, cost: webpCost(frame)}
	if still.animated {
		p.Width, p.Height = still.canvas.X, still.canvas.Y
		if !image.Rect(0, 0, frame.Width, frame.Height).Add(still.at).In(image.Rectangle{Max: still.canvas}) {
			return picture{}, errFrameOutside
		}
	}
	p.decode = func() (image.Image, int, error) {
		chunks := newChunks(f.rewind(true), webpChunks)
		still, err := readWebP(chunks)
		if err != nil {
			return nil, 0, err
		}
		img, err := webp.Decode(still.file)
		if err != nil {
			return nil, 0, err
		}
		orientation, err := chunks.orientation()
		return onCanvas(img, still.at, p.Config, color.RGBA64{}), orientation, err
	}
	return p, nil
}

func webpCost(c image.Config) float64 {
	if c.ColorModel == color.YCbCrModel {
		return 3
	}
	return 12 // lossless, or with a lossless alpha channel
}

// webpStill is the first or only frame of a WebP file (RFC 9649).
type webpStill struct {
	file     io.Reader // a WebP file of the frame alone, for a decoder that does not support animations
	animated bool
	canvas   image.Point // of an animation, its size
	at       image.Point // of an animation, where the frame is on the canvas
}

var (
	errNoWebP       = errors.New("no WebP file")
	errFrameOutside = errors.New("a frame goes beyond its canvas")
)

// readWebP parses chunks up to the first one of a frame.
func readWebP(content io.Reader) (still webpStill, err error) {
	r := bufio.NewReader(content)
	start := make([]byte, 12)
	if _, err := io.ReadFull(r, start); err != nil || string(start[:4]) != "RIFF" || string(start[8:]) != "WEBP" {
		return still, errors.Join(errNoWebP, err)
	}
	var size image.Point // of the frame
	for {
		head, err := r.Peek(chunkHead)
		if err != nil {
			return still, errors.Join(errNoWebP, err)
		}
		name, length := webpChunks.head(head)
		switch name {
		case "VP8 ", "VP8L", "ALPH":
			still.file = io.MultiReader(stillStart(name == "ALPH", size), r)
			return still, nil
		case "VP8X":
			b, err := r.Peek(chunkHead + 10)
			if err != nil {
				return still, errors.Join(errNoWebP, err)
			}
			still.animated = b[8]&2 != 0
			still.canvas = image.Pt(uint24(b[12:])+1, uint24(b[15:])+1)
			size = still.canvas
		case "ANMF": // a frame: its header, and then its chunks
			b, err := r.Peek(chunkHead + 16)
			if err != nil {
				return still, errors.Join(errNoWebP, err)
			}
			still.at = image.Pt(2*uint24(b[8:]), 2*uint24(b[11:]))
			size = image.Pt(uint24(b[14:])+1, uint24(b[17:])+1)
			length = 16
		}
		if _, err := io.CopyN(io.Discard, r, chunkHead+length); err != nil {
			return still, errors.Join(errNoWebP, err)
		}
	}
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// stillStart returns the start of a WebP file with a single picture. Only with an alpha
// channel does it contain the size, where it is required.
func stillStart(alpha bool, size image.Point) io.Reader {
	const endless = 1<<32 - 2 // the decoder reads no more than it needs
	b := binary.LittleEndian.AppendUint32([]byte("RIFF"), endless)
	b = append(b, "WEBP"...)
	if alpha {
		b = binary.LittleEndian.AppendUint32(append(b, "VP8X"...), 10)
		w, h := max(size.X, 1)-1, max(size.Y, 1)-1
		b = append(b, 1<<4, 0, 0, 0, byte(w), byte(w>>8), byte(w>>16), byte(h), byte(h>>8), byte(h>>16))
	}
	return bytes.NewReader(b)
}
