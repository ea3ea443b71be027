package preview

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"
)

// exifPrefix precedes the Exif data of a JPEG, and of other formats where a program
// copied the data from a JPEG.
var exifPrefix = []byte("Exif\x00\x00")

// orientationIn returns the orientation tag of the first directory of Exif data, which
// is a TIFF file; 0 where there is none.
func orientationIn(exif []byte) int {
	file, err := parseTIFF(bytes.TrimPrefix(exif, exifPrefix))
	if err != nil {
		return 0
	}
	return file.orientation()
}

// chunks is a reader that extracts the Exif data from the chunks of a PNG or WebP file
// while the file is read through it: they may be before or after the picture.
type chunks struct {
	r     io.Reader
	kind  chunkKind
	pass  int64  // bytes to skip: data that is not the head of a chunk
	head  []byte // the part of the next chunk's head that was read
	exif  []byte
	inner bool // the bytes that are skipped are Exif data
}

// chunkKind describes the layout of chunks in a format.
type chunkKind struct {
	start int64 // bytes before the first chunk
	exif  string
	head  func(head []byte) (name string, length int64) // length includes what follows the data
}

const (
	chunkHead = 8 // bytes
	// maxExif, in bytes, is the most Exif data that is read: as much as a JPEG can
	// have.
	maxExif = 64 << 10
)

var (
	pngChunks = chunkKind{8, "eXIf", func(b []byte) (string, int64) {
		return string(b[4:]), int64(binary.BigEndian.Uint32(b)) + 4 // with a checksum
	}}
	webpChunks = chunkKind{12, "EXIF", func(b []byte) (string, int64) {
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		return string(b[:4]), n + n%2
	}}
)

func newChunks(r io.Reader, kind chunkKind) *chunks {
	return &chunks{r: r, kind: kind, pass: kind.start}
}

func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for b := p[:n]; len(b) > 0; {
		take := min(int64(len(b)), c.pass)
		if take == 0 {
			take = min(int64(len(b)), int64(chunkHead-len(c.head)))
			c.head = append(c.head, b[:take]...)
			c.begin()
		} else {
			if c.inner {
				c.exif = append(c.exif, b[:take]...)
			}
			c.pass -= take
		}
		b = b[take:]
	}
	return n, err
}

// begin parses the head of a chunk when it is complete.
func (c *chunks) begin() {
	if len(c.head) < chunkHead {
		return
	}
	name, length := c.kind.head(c.head)
	c.head, c.pass = c.head[:0], length
	c.inner = name == c.kind.exif && c.exif == nil && length <= maxExif
}

// orientation reads the rest of the file, and returns its orientation; 0 for none.
func (c *chunks) orientation() (int, error) {
	if c.exif == nil {
		if _, err := io.Copy(io.Discard, c); err != nil {
			return 0, err
		}
	}
	return orientationIn(c.exif), nil
}

// turn rotates and mirrors a picture upright according to its orientation (Exif 2.32,
// section 4.6.4, tag 0x0112); 0 and 1 are upright.
func turn(in *image.NRGBA64, orientation int) *image.NRGBA64 {
	if orientation < 2 {
		return in
	}
	w, height := in.Rect.Dx(), in.Rect.Dy()
	bounds := in.Rect
	if orientation >= 5 { // width and height are swapped
		bounds = image.Rect(0, 0, height, w)
	}
	out := image.NewNRGBA64(bounds)
	for y := range height {
		for x := range w {
			toX, toY := x, y
			switch orientation {
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
