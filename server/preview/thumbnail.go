// Package preview makes previews of stored files: a thumbnail of a picture, the first
// rows of a table, the beginning of a text. Files may be malicious, so everything that
// costs memory or time has a limit that is checked before the cost arises.
package preview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/draw"
)

// ThumbnailSize is the greatest width and height of a thumbnail, in pixels.
const ThumbnailSize = 256

// Limits of a picture, checked against its header.
const (
	maxPixels     = 40_000_000
	maxPixelsJPEG = 110_000_000 // phones take such pictures, and one needs 1.5 bytes a pixel
	maxMemory     = 172 << 20   // bytes, during decoding
)

// ErrNone means that a file has no preview: it is damaged, of another type, or would
// cost too much.
var ErrNone = errors.New("no preview")

// pictures maps the types that Thumbnail decodes to the functions that read their
// headers.
var pictures = map[string]func(*file) (picture, error){
	"image/png":  openPNG,
	"image/jpeg": openJPEG,
	"image/gif":  openGIF,
	"image/webp": openWebP,
	"image/bmp":  openBMP,
	"image/tiff": openTIFF,
}

// picture is the header of a picture.
type picture struct {
	image.Config         // of the whole picture, of which the first frame may be a part
	pixels       int64   // the limit; 0 for maxPixels
	cost         float64 // bytes per pixel, during decoding
	decode       func() (img image.Image, orientation int, err error)
}

// HasThumbnail reports whether files of a type may have thumbnails.
func HasThumbnail(mimeType string) bool {
	_, known := pictures[mimeType]
	return known
}

// Thumbnail makes a thumbnail, in PNG or JPEG, of the picture of the given type in the
// first size bytes of r, at most ThumbnailSize pixels wide and high. It ends soon after
// ctx does. The error is ErrNone when none can be made; any other is that of ctx or of
// r.
func Thumbnail(ctx context.Context, r io.ReaderAt, size int64, mimeType string) (thumbnail []byte, err error) {
	return thumbnailWithin(ctx, func(bool) io.Reader { return io.NewSectionReader(r, 0, size) }, size, mimeType, maxMemory)
}

// thumbnailWithin is Thumbnail with a limit of memory in bytes. begin returns a reader
// of the content from its start; last means that it is not called again.
func thumbnailWithin(ctx context.Context, begin func(last bool) io.Reader, size int64, mimeType string, memory float64) (thumbnail []byte, err error) {
	defer refuseAfterPanic(&err)
	open, known := pictures[mimeType]
	if !known {
		return nil, fmt.Errorf("%w: %s is no type of a picture", ErrNone, mimeType)
	}
	f := &file{source: source{ctx: ctx}, begin: begin, size: size, memory: memory}
	p, err := open(f)
	if err != nil {
		return nil, f.why(err)
	}
	if p.pixels == 0 {
		p.pixels = maxPixels
	}
	if err := affordable(p.Config, p.pixels, p.cost, memory); err != nil {
		return nil, err
	}
	decoded, orientation, err := p.decode()
	if err != nil {
		return nil, f.why(err)
	}
	if err := affordable(image.Config{Width: decoded.Bounds().Dx(), Height: decoded.Bounds().Dy()}, p.pixels, 0, memory); err != nil {
		return nil, err
	}
	small, err := shrink(ctx, decoded)
	if err != nil {
		return nil, err
	}
	return encode(turn(small, orientation))
}

// file is the content of a picture, which can be read more than once.
type file struct {
	source
	begin  func(last bool) io.Reader
	size   int64
	memory float64 // the limit of memory in bytes, for all that decoding needs
}

// rewind returns a reader of the content from its start. After a call with last, the
// content cannot be read again, and takes no memory.
func (f *file) rewind(last bool) io.Reader {
	f.r = f.begin(last)
	return &f.source
}

func affordable(c image.Config, most int64, bytesEach, memory float64) error {
	pixels := int64(c.Width) * int64(c.Height) // no format has more than 32 bits for each dimension
	switch {
	case c.Width < 1 || c.Height < 1:
		return fmt.Errorf("%w: the picture is empty", ErrNone)
	case int64(c.Width) > most || int64(c.Height) > most || pixels > most:
		return fmt.Errorf("%w: the picture has %d x %d pixels", ErrNone, c.Width, c.Height)
	case float64(pixels)*bytesEach > memory:
		return fmt.Errorf("%w: a picture of this form with %d x %d pixels takes too much memory", ErrNone, c.Width, c.Height)
	}
	return nil
}

// shrink scales a picture down in two steps: it averages boxes of whole pixels to a
// picture about twice as large as wanted, and interpolates that. Neither step needs
// memory for more than the small picture.
func shrink(ctx context.Context, picture image.Image) (*image.NRGBA64, error) {
	b := picture.Bounds()
	w, h := b.Dx(), b.Dy()
	longer := max(w, h)
	if longer <= ThumbnailSize {
		return means(ctx, picture, 1, 1)
	}
	toW, toH := max(1, w*ThumbnailSize/longer), max(1, h*ThumbnailSize/longer)
	middle, err := means(ctx, picture, max(1, w/(2*toW)), max(1, h/(2*toH)))
	if err != nil {
		return nil, err
	}
	small := image.NewNRGBA64(image.Rect(0, 0, toW, toH))
	draw.CatmullRom.Scale(small, small.Bounds(), middle, middle.Bounds(), draw.Src, nil)
	return small, nil
}

// means averages each box of boxW by boxH pixels to one pixel.
func means(ctx context.Context, picture image.Image, boxW, boxH int) (*image.NRGBA64, error) {
	b := picture.Bounds()
	at := colors(picture)
	out := image.NewNRGBA64(image.Rect(0, 0, (b.Dx()+boxW-1)/boxW, (b.Dy()+boxH-1)/boxH))
	sums := make([]struct{ r, g, b, a, n uint64 }, out.Rect.Dx())
	for y := range out.Rect.Dy() {
		clear(sums)
		top := b.Min.Y + y*boxH
		for row := top; row < min(top+boxH, b.Max.Y); row++ {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for x := range b.Dx() {
				c, sum := at(b.Min.X+x, row), &sums[x/boxW]
				sum.r += uint64(c.R)
				sum.g += uint64(c.G)
				sum.b += uint64(c.B)
				sum.a += uint64(c.A)
				sum.n++
			}
		}
		for x, sum := range sums {
			n := sum.n
			out.Set(x, y, color.RGBA64{uint16(sum.r / n), uint16(sum.g / n), uint16(sum.b / n), uint16(sum.a / n)})
		}
	}
	return out, nil
}

// colors returns a function that reads a picture's pixels, without an allocation for
// each where possible.
func colors(picture image.Image) func(x, y int) color.RGBA64 {
	if fast, ok := picture.(image.RGBA64Image); ok {
		return fast.RGBA64At
	}
	return func(x, y int) color.RGBA64 {
		r, g, b, a := picture.At(x, y).RGBA()
		return color.RGBA64{uint16(r), uint16(g), uint16(b), uint16(a)}
	}
}

// encode encodes as PNG, or as JPEG where that is smaller and no pixel is transparent.
func encode(small *image.NRGBA64) ([]byte, error) {
	out := image.NewNRGBA(small.Bounds())
	draw.Draw(out, out.Bounds(), small, small.Bounds().Min, draw.Src)
	var asPNG, asJPEG bytes.Buffer
	if err := png.Encode(&asPNG, out); err != nil {
		return nil, err
	}
	if !out.Opaque() {
		return asPNG.Bytes(), nil
	}
	if err := jpeg.Encode(&asJPEG, out, &jpeg.Options{Quality: 80}); err != nil {
		return nil, err
	}
	if asJPEG.Len() < asPNG.Len() {
		return asJPEG.Bytes(), nil
	}
	return asPNG.Bytes(), nil
}

// source is the reader of a decoder. It fails when its context ends, and remembers the
// errors that are not the file's fault.
type source struct {
	ctx    context.Context
	r      io.Reader
	failed error
}

func (s *source) Read(p []byte) (int, error) {
	if s.failed == nil {
		s.failed = s.ctx.Err()
	}
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// why returns the reason of a decoder's failure: a read error, or else a damaged file.
func (s *source) why(err error) error {
	if s.failed != nil {
		return s.failed
	}
	return fmt.Errorf("%w: %w", ErrNone, err)
}

// refuseAfterPanic is to be deferred: a file on which a decoder panics is treated as
// any other damaged file.
func refuseAfterPanic(err *error) {
	if panicked := recover(); panicked != nil {
		*err = fmt.Errorf("%w: panic: %v", ErrNone, panicked)
	}
}
