package preview

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"io"
)

// tiffJPEG is a picture in a TIFF file each of whose tiles or strips is a JPEG file,
// mostly without the tables, which are in the TIFF file once (TIFF technical note 2).
// Its pixels should be read from top to bottom: one row of tiles is decoded at a time.
type tiffJPEG struct {
	*tiffFile
	grid
	size        image.Point
	across      int // tiles in a row
	tables      []byte
	photometric int
	memory      float64 // limit of memory for a tile, in bytes
	row         int     // the row of tiles that is decoded; -1 for none
	tiles       []func(x, y int) color.RGBA64
}

func (t *tiffFile) openJPEG(f *file) (picture, error) {
	w, h := t.number(tagWidth, 0, 0), t.number(tagHeight, 0, 0)
	p := &tiffJPEG{tiffFile: t, grid: t.grid(w, h), size: image.Pt(w, h), photometric: t.number(tagPhotometric, 0, -1), row: -1}
	if t.number(tagCompression, 0, 0) == compressionOldJPEG && t.entry(tagJPEGFile) != nil {
		p.grid = grid{w, h, tagJPEGFile, tagJPEGFileLength} // the whole picture is one JPEG file
	}
	const least = 8 // pixels, as in other TIFF files
	if w <= 0 || h <= 0 || p.tileW < min(w, least) || p.tileH < 1 || w > maxPixels || h > maxPixels {
		return picture{}, errNoTile
	}
	p.across = (w + p.tileW - 1) / p.tileW
	p.memory = f.memory / float64(p.across)
	if _, tables := t.raw(tagJPEGTables); len(tables) >= 4 {
		p.tables = tables[2 : len(tables)-2] // without the markers of start and end
	}
	first, err := p.jpegFile(0)
	if err != nil {
		return picture{}, err
	}
	head := readJPEG(first())
	config, err := jpeg.DecodeConfig(first())
	ofRow := float64(p.across) * float64(p.tileW) * float64(p.tileH)
	return picture{
		Config: image.Config{ColorModel: config.ColorModel, Width: w, Height: h},
		cost:   head.cost(config) * ofRow / (float64(w) * float64(h)),
		decode: func() (image.Image, int, error) {
			_, err := p.decodeTile(0) // other tiles may be missing
			return p, t.orientation(), err
		},
	}, err
}

// jpegFile assembles the JPEG file of a tile. begin returns a reader of it, any number
// of times.
func (t *tiffJPEG) jpegFile(i int) (begin func() io.Reader, err error) {
	at, length := int64(t.number(t.offsets, i, -1)), int64(t.number(t.lengths, i, -1))
	if at < 0 || length < 4 || at >= int64(len(t.content)) {
		return nil, errNoTile
	}
	tile := t.content[at:min(at+length, int64(len(t.content)))]
	start := []byte{0xFF, 0xD8}
	if !bytes.HasPrefix(tile, start) {
		return nil, errNoTile
	}
	if t.photometric == photometricRGB || t.photometric == photometricCMYK {
		start = append(start, adobeCMYK...) // or RGB: not luminance and chrominance
	}
	return func() io.Reader {
		return io.MultiReader(bytes.NewReader(start), bytes.NewReader(t.tables), bytes.NewReader(tile[2:]), bytes.NewReader([]byte{0xFF, markerEOI}))
	}, nil
}

func (t *tiffJPEG) decodeTile(i int) (image.Image, error) {
	file, err := t.jpegFile(i)
	if err != nil {
		return nil, err
	}
	config, err := jpeg.DecodeConfig(file())
	if err != nil {
		return nil, err
	}
	const unit = 16 // pixels that are coded together at most, in each direction
	head := readJPEG(file())
	if config.Width >= t.tileW+unit || config.Height >= t.tileH+unit || float64(config.Width)*float64(config.Height)*head.cost(config) > t.memory {
		return nil, errNoTile
	}
	img, err := jpeg.Decode(file())
	switch of := img.(type) {
	case *image.CMYK: // the decoder takes the samples for inverted CMYK
		invert(of.Pix)
		if t.photometric == photometricRGB {
			img = t.fourthSample(&image.NRGBA{Pix: of.Pix, Stride: of.Stride, Rect: of.Rect})
		}
	case *image.Gray:
		if t.photometric == photometricWhiteIsZero {
			invert(of.Pix)
		}
	}
	return img, err
}

func invert(samples []byte) {
	for i, b := range samples {
		samples[i] = ^b
	}
}

// decodeRow decodes a row of tiles, and leaves those gray that cannot be decoded.
func (t *tiffJPEG) decodeRow(row int) {
	t.row, t.tiles = row, make([]func(x, y int) color.RGBA64, t.across)
	size := image.Config{Width: t.tileW, Height: t.tileH}
	for i := range t.tiles {
		img, err := t.decodeTile(row*t.across + i)
		if err != nil {
			img = image.NewUniform(unknown)
		}
		t.tiles[i] = colors(onCanvas(img, image.Point{}, size, unknown))
	}
}

// Bounds are those of the whole picture.
func (t *tiffJPEG) Bounds() image.Rectangle { return image.Rectangle{Max: t.size} }

// ColorModel is that of At.
func (t *tiffJPEG) ColorModel() color.Model { return color.RGBA64Model }

// At decodes the row of tiles that the pixel is in, if needed.
func (t *tiffJPEG) At(x, y int) color.Color { return t.RGBA64At(x, y) }

// RGBA64At is At without an allocation.
func (t *tiffJPEG) RGBA64At(x, y int) color.RGBA64 {
	if row := y / t.tileH; row != t.row {
		t.decodeRow(row)
	}
	return t.tiles[x/t.tileW](x%t.tileW, y%t.tileH)
}
