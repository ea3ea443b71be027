package preview

import (
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
)

func openPNG(f *file) (picture, error) {
	var start [29]byte // the signature and IHDR, whose last byte is the interlace method
	if _, err := io.ReadFull(f.rewind(false), start[:]); err != nil {
		return picture{}, err
	}
	config, err := png.DecodeConfig(f.rewind(false))
	return picture{Config: config, cost: pngCost(config, start[28] != 0), decode: func() (image.Image, int, error) {
		chunks := newChunks(f.rewind(true), pngChunks)
		img, err := png.Decode(chunks)
		if err != nil {
			return nil, 0, err
		}
		orientation, err := chunks.orientation()
		return img, orientation, err
	}}, err
}

func pngCost(c image.Config, interlaced bool) float64 {
	cost := bytesEach(c.ColorModel)
	if interlaced {
		cost *= 1.5 // the largest interlace pass is half of the picture
	}
	return cost
}

// bytesEach is how many bytes a pixel takes in memory, in a picture without a palette.
func bytesEach(model color.Model) float64 {
	switch model {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.RGBA64Model, color.NRGBA64Model:
		return 8
	}
	return 4
}

// openGIF opens the first frame, which may cover only a part of the canvas in an
// optimized animation.
func openGIF(f *file) (picture, error) {
	config, err := gif.DecodeConfig(f.rewind(false))
	return picture{Config: config, cost: 1, decode: func() (image.Image, int, error) {
		frame, err := gif.Decode(f.rewind(true))
		if err != nil {
			return nil, 0, err
		}
		return onCanvas(frame, image.Point{}, config, color.RGBA64{}), 0, nil
	}}, err
}

func openBMP(f *file) (picture, error) {
	config, err := bmp.DecodeConfig(f.rewind(false))
	return picture{Config: config, cost: 4, decode: func() (image.Image, int, error) {
		img, err := bmp.Decode(f.rewind(true))
		return img, 0, err
	}}, err
}

// unknown is the color of missing parts of a picture: gray.
var unknown = color.RGBA64{0x8080, 0x8080, 0x8080, 0xFFFF}

// canvas is a picture of which only a part is known; the rest has one color.
type canvas struct {
	image.Image // the part
	at          image.Point
	colors      func(x, y int) color.RGBA64
	bounds      image.Rectangle
	rest        color.RGBA64
}

// onCanvas places a frame, moved by at, on a canvas of the given size, whose other
// pixels have the color rest.
func onCanvas(frame image.Image, at image.Point, size image.Config, rest color.RGBA64) image.Image {
	bounds := image.Rect(0, 0, size.Width, size.Height)
	if frame.Bounds().Add(at) == bounds {
		return frame
	}
	return &canvas{frame, at, colors(frame), bounds, rest}
}

// Bounds are those of the canvas.
func (c *canvas) Bounds() image.Rectangle { return c.bounds }

// At is the color of the part, or of the rest outside of it.
func (c *canvas) At(x, y int) color.Color { return c.RGBA64At(x, y) }

// RGBA64At is At without an allocation.
func (c *canvas) RGBA64At(x, y int) color.RGBA64 {
	if p := image.Pt(x, y).Sub(c.at); p.In(c.Image.Bounds()) {
		return c.colors(p.X, p.Y)
	}
	return c.rest
}
