package preview

import (
	"bufio"
	"encoding/binary"
	"image"
	"io"
)

// header is what the decoders do not tell of a picture.
type header struct {
	interlaced  bool    // a PNG in seven passes
	progressive bool    // a JPEG in many scans
	samples     float64 // of a JPEG, for each pixel
	orientation int     // of a JPEG: Exif 2.32, section 4.6.4, tag 0x0112; 0 and 1 are upright
}

func readHeader(r io.Reader, mimeType string) header {
	h := header{samples: 4}
	switch mimeType {
	case "image/png":
		var start [29]byte // the signature and IHDR, of which the last byte is the interlace method
		_, err := io.ReadFull(r, start[:])
		h.interlaced = err != nil || start[28] != 0
	case "image/jpeg":
		h.readJPEG(bufio.NewReader(r))
	}
	return h
}

// readJPEG goes from segment to segment as far as the frame header (ITU-T
// T.81, section B.2). What it cannot read, the decoder does not either.
func (h *header) readJPEG(r *bufio.Reader) {
	if _, err := r.Discard(2); err != nil { // SOI
		return
	}
	for {
		marker, err := nextMarker(r)
		if err != nil {
			return
		}
		if marker >= 0xD0 && marker <= 0xD9 || marker == 0x01 {
			continue // these have no length
		}
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:])) - 2
		if n < 0 {
			return
		}
		frame := marker >= 0xC0 && marker <= 0xC2
		if !frame && marker != 0xE1 {
			if _, err := r.Discard(n); err != nil {
				return
			}
			continue
		}
		segment := make([]byte, n) // 64 KB at most
		if _, err := io.ReadFull(r, segment); err != nil {
			return
		}
		if frame {
			h.progressive = marker == 0xC2
			h.samples = samples(segment)
			return
		}
		if h.orientation == 0 {
			h.orientation = exifOrientation(segment)
		}
	}
}

// nextMarker skips to the code after the next 0xFF that is neither filling nor
// a stuffed byte.
func nextMarker(r *bufio.Reader) (byte, error) {
	for last := byte(0); ; {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if last == 0xFF && b != 0xFF && b != 0 {
			return b, nil
		}
		last = b
	}
}

// samples is how many samples a frame has for each pixel: each component has
// fewer, the less densely it is sampled (T.81, section A.1.1).
func samples(frame []byte) float64 {
	if len(frame) < 6 || len(frame) < 6+3*int(frame[5]) {
		return 4
	}
	var sum, maxH, maxV int
	for i := range int(frame[5]) {
		h, v := int(frame[7+3*i]>>4), int(frame[7+3*i]&15)
		sum, maxH, maxV = sum+h*v, max(maxH, h), max(maxV, v)
	}
	if maxH*maxV == 0 {
		return 4
	}
	return float64(sum) / float64(maxH*maxV)
}

// exifOrientation reads the tag from the first directory of an APP1 segment,
// which is a TIFF file behind six bytes; 0 where there is none.
func exifOrientation(segment []byte) int {
	if len(segment) < 14 || string(segment[:6]) != "Exif\x00\x00" {
		return 0
	}
	file := segment[6:]
	var order binary.ByteOrder = binary.LittleEndian
	if string(file[:2]) == "MM" {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(file[4:]))
	if at+2 > int64(len(file)) {
		return 0
	}
	entries := int(order.Uint16(file[at:]))
	for entry := file[at+2:]; entries > 0 && len(entry) >= 12; entry, entries = entry[12:], entries-1 {
		const orientation, short = 0x0112, 3
		if order.Uint16(entry) == orientation && order.Uint16(entry[2:]) == short {
			if value := int(order.Uint16(entry[8:])); value <= 8 {
				return value
			}
			return 0
		}
	}
	return 0
}

// turn puts a picture upright.
func (h header) turn(in *image.NRGBA64) *image.NRGBA64 {
	if h.orientation < 2 {
		return in
	}
	w, height := in.Rect.Dx(), in.Rect.Dy()
	bounds := in.Rect
	if h.orientation >= 5 { // width and height change places
		bounds = image.Rect(0, 0, height, w)
	}
	out := image.NewNRGBA64(bounds)
	for y := range height {
		for x := range w {
			toX, toY := x, y
			switch h.orientation {
			case 2:
				toX = w - 1 - x
			case 3:
				toX, toY = w-1-x, height-1-y
			case 4:
				toY = height - 1 - y
			case 5:
				toX, toY = y, x
			case 6:
				toX, toY = height-1-y, x
			case 7:
				toX, toY = height-1-y, w-1-x
			case 8:
				toX, toY = y, w-1-x
			}
			out.SetNRGBA64(toX, toY, in.NRGBA64At(x, y))
		}
	}
	return out
}
