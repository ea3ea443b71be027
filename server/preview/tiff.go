package preview

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io"

	"golang.org/x/image/tiff"
)

// Tags of TIFF 6.0, and of its technical note 2.
const (
	tagWidth           = 256
	tagHeight          = 257
	tagBits            = 258
	tagCompression     = 259
	tagPhotometric     = 262
	tagFillOrder       = 266
	tagStripOffsets    = 273
	tagOrientation     = 274
	tagSamples         = 277
	tagRowsPerStrip    = 278
	tagStripByteCounts = 279
	tagTileWidth       = 322
	tagTileHeight      = 323
	tagTileOffsets     = 324
	tagTileByteCounts  = 325
	tagExtraSamples    = 338
	tagJPEGTables      = 347
	tagJPEGFile        = 513
	tagJPEGFileLength  = 514
)

var (
	errNoTIFF   = errors.New("no TIFF file")
	errNoMemory = errors.New("the file takes too much memory")
	errNoTile   = errors.New("a tile or strip is missing, or not as large as the file says")
)

// tiffFile is a TIFF file with its first directory.
type tiffFile struct {
	content []byte
	order   binary.ByteOrder
	at      int    // offset of the directory in content
	entries []byte // of 12 bytes each
}

const tiffEntry = 12 // bytes

func parseTIFF(content []byte) (*tiffFile, error) {
	t := &tiffFile{content: content, order: binary.LittleEndian}
	switch {
	case len(content) < 8:
		return nil, errNoTIFF
	case string(content[:4]) == "MM\x00*":
		t.order = binary.BigEndian
	case string(content[:4]) != "II*\x00":
		return nil, errNoTIFF
	}
	at := uint64(t.order.Uint32(content[4:]))
	if at+2 > uint64(len(content)) {
		return nil, errNoTIFF
	}
	t.at = int(at)
	t.entries = content[t.at+2:]
	n := min(int(t.order.Uint16(content[t.at:])), len(t.entries)/tiffEntry)
	t.entries = t.entries[:n*tiffEntry]
	return t, nil
}

// entry returns the entry of a tag, or nil where there is none.
func (t *tiffFile) entry(tag int) []byte {
	for e := t.entries; len(e) > 0; e = e[tiffEntry:] {
		if int(t.order.Uint16(e)) == tag {
			return e[:tiffEntry]
		}
	}
	return nil
}

// raw returns the type and the values of a tag, as they are in the file.
func (t *tiffFile) raw(tag int) (kind int, values []byte) {
	e := t.entry(tag)
	if e == nil {
		return 0, nil
	}
	sizes := [...]uint64{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1}
	kind = int(t.order.Uint16(e[2:]))
	if kind >= len(sizes) {
		return 0, nil
	}
	n := uint64(t.order.Uint32(e[4:])) * sizes[kind]
	if n <= 4 {
		return kind, e[8 : 8+n]
	}
	at := uint64(t.order.Uint32(e[8:]))
	if at+n > uint64(len(t.content)) {
		return 0, nil
	}
	return kind, t.content[at : at+n]
}

// number returns the i-th value of a tag, or otherwise where it has none.
func (t *tiffFile) number(tag, i, otherwise int) int {
	const short, long = 3, 4
	switch kind, b := t.raw(tag); {
	case kind == short && len(b) >= 2*(i+1):
		return int(t.order.Uint16(b[2*i:]))
	case kind == long && len(b) >= 4*(i+1):
		return int(t.order.Uint32(b[4*i:]))
	}
	return otherwise
}

func (t *tiffFile) orientation() int {
	if value := t.number(tagOrientation, 0, 0); value >= 0 && value <= 8 {
		return value
	}
	return 0
}

// openTIFF opens the first picture of the file.
func openTIFF(f *file) (picture, error) {
	if f.memory < 0 {
		return picture{}, errNoMemory
	}
	content := make([]byte, f.size) // the content is read at random, and so kept in memory
	if _, err := io.ReadFull(f.rewind(true), content); err != nil {
		return picture{}, err
	}
	t, err := parseTIFF(content)
	if err != nil {
		return picture{}, err
	}
	switch t.number(tagCompression, 0, 1) {
	case compressionOldJPEG, compressionJPEG:
		return t.openJPEG(f)
	case compressionG3:
		t.removeFill()
	}
	convert := t.conversion()
	config, err := tiff.DecodeConfig(bytes.NewReader(content))
	return picture{Config: config, cost: t.cost(config), decode: func() (image.Image, int, error) {
		img, err := tiff.Decode(bytes.NewReader(content))
		if err != nil {
			return nil, 0, err
		}
		return convert(img), t.orientation(), nil
	}}, err
}

// cost is the memory that decoding needs, in bytes per pixel: for the picture, and for
// a block of it in the buffer of the decompressor, which grows.
func (t *tiffFile) cost(c image.Config) float64 {
	picture := bytesEach(c.ColorModel)
	if _, ok := c.ColorModel.(color.Palette); ok {
		picture = 1
	}
	switch t.number(tagCompression, 0, 1) {
	case compressionG3, compressionG4:
		return picture + 0.5 // one bit per pixel, whatever the file says
	}
	const (
		block = 12.0 // per pixel of it
		most  = 16   // in total: then the block is the whole picture
	)
	g := t.grid(c.Width, c.Height)
	part := float64(g.tileW) * float64(g.tileH) / (float64(c.Width) * float64(c.Height))
	return min(most, picture+block*part)
}

// grid describes how a picture is divided into tiles, or into strips, which are as wide
// as the picture.
type grid struct {
	tileW, tileH     int
	offsets, lengths int // the tags that hold their offsets and lengths in the file
}

func (t *tiffFile) grid(w, h int) grid {
	if tileW := t.number(tagTileWidth, 0, 0); tileW > 0 {
		return grid{tileW, t.number(tagTileHeight, 0, 0), tagTileOffsets, tagTileByteCounts}
	}
	rows := t.number(tagRowsPerStrip, 0, h)
	if rows <= 0 || rows > h {
		rows = h
	}
	return grid{w, rows, tagStripOffsets, tagStripByteCounts}
}

// Values of the tags for compression and for the meaning of samples and of
// further ones.
const (
	compressionG3      = 3
	compressionG4      = 4
	compressionOldJPEG = 6
	compressionJPEG    = 7

	photometricWhiteIsZero = 0
	photometricBlackIsZero = 1
	photometricRGB         = 2
	photometricCMYK        = 5

	premultipliedAlpha = 1
	straightAlpha      = 2
)

// conversion returns the function that corrects the decoder's picture to what the file
// means.
func (t *tiffFile) conversion() func(image.Image) image.Image {
	_, bits := t.raw(tagBits)
	compression, photometric := t.number(tagCompression, 0, 1), t.number(tagPhotometric, 0, -1)
	switch {
	case (compression == compressionG3 || compression == compressionG4) && photometric == photometricBlackIsZero:
		return asNegative
	case len(bits) == 4*2 && photometric == photometricCMYK && t.pretendRGBA():
		return asCMYK
	case len(bits) == 4*2 && photometric == photometricRGB && t.number(tagExtraSamples, 0, 0) == 0 && t.pretendRGBA():
		return withoutAlpha // the fourth sample is no alpha
	}
	return func(img image.Image) image.Image { return img }
}

// pretendRGBA changes the tags in the file to declare the four samples of a pixel to be
// red, green, blue and alpha: the decoder supports no other meaning.
func (t *tiffFile) pretendRGBA() bool {
	entry := func(tag, value int) []byte {
		const short = 3
		e := make([]byte, tiffEntry)
		t.order.PutUint16(e, uint16(tag))
		t.order.PutUint16(e[2:], short)
		t.order.PutUint32(e[4:], 1)
		t.order.PutUint16(e[8:], uint16(value))
		return e
	}
	added := entry(tagExtraSamples, straightAlpha)
	var entries []byte
	for e := t.entries; len(e) > 0; e = e[tiffEntry:] {
		tag := int(t.order.Uint16(e))
		if tag > tagExtraSamples && added != nil {
			entries, added = append(entries, added...), nil
		}
		switch tag {
		case tagSamples, tagExtraSamples: // the decoder ignores the first
		case tagPhotometric:
			entries = append(entries, entry(tagPhotometric, photometricRGB)...)
		default:
			entries = append(entries, e[:tiffEntry]...)
		}
	}
	entries = append(entries, added...)
	if len(entries) > len(t.entries) {
		return false // a required tag is missing
	}
	t.entries = t.entries[:copy(t.entries, entries)]
	t.order.PutUint16(t.content[t.at:], uint16(len(entries)/tiffEntry))
	return true
}

// removeFill removes the fill bits of a fax, which pad its rows, mostly to whole bytes
// (ITU-T T.4, section 4.1.3): the decoder recognizes the end of a row by exactly eleven
// zeros and a one. No other code has that many zeros.
func (t *tiffFile) removeFill() {
	const lowestFirst, most = 2, 11
	var order bitOrder = highestFirst
	if t.number(tagFillOrder, 0, 1) == lowestFirst {
		order = func(i int) byte { return 1 << i }
	}
	left := len(t.content) // bytes: strips may overlap
	for i := 0; ; i++ {
		at, length := t.number(tagStripOffsets, i, -1), t.number(tagStripByteCounts, i, -1)
		if at < 0 || length < 0 || at > len(t.content) || length > min(left, len(t.content)-at) {
			return
		}
		left -= max(length, 1)
		strip := t.content[at : at+length]
		zeros, out := 0, 0 // bits
		for n := range 8 * len(strip) {
			if strip[n/8]&order(n%8) == 0 {
				zeros++
				continue
			}
			strip[n/8] &^= order(n % 8)
			out += min(zeros, most)
			zeros = 0
			strip[out/8] |= order(out % 8)
			out++
		}
	}
}

// bitOrder returns the mask of the i-th bit of a byte.
type bitOrder func(i int) byte

func highestFirst(i int) byte { return 0x80 >> i }

// asNegative inverts a fax whose black runs are white: the decoder makes them black in
// any case.
func asNegative(img image.Image) image.Image {
	if gray, ok := img.(*image.Gray); ok {
		invert(gray.Pix)
	}
	return img
}

func asCMYK(img image.Image) image.Image {
	switch img := img.(type) {
	case *image.NRGBA:
		return &image.CMYK{Pix: img.Pix, Stride: img.Stride, Rect: img.Rect}
	case *image.NRGBA64:
		for i := range len(img.Pix) / 2 {
			img.Pix[i] = img.Pix[2*i] // the upper byte of each sample
		}
		return &image.CMYK{Pix: img.Pix, Stride: img.Stride / 2, Rect: img.Rect}
	}
	return img
}

// fourthSample makes the fourth sample alpha, or drops it if it has no known meaning.
func (t *tiffFile) fourthSample(img *image.NRGBA) image.Image {
	switch t.number(tagExtraSamples, 0, 0) {
	case premultipliedAlpha:
		return &image.RGBA{Pix: img.Pix, Stride: img.Stride, Rect: img.Rect}
	case straightAlpha:
		return img
	}
	return withoutAlpha(img)
}

func withoutAlpha(img image.Image) image.Image {
	switch img := img.(type) {
	case *image.NRGBA:
		for i := 3; i < len(img.Pix); i += 4 {
			img.Pix[i] = 0xFF
		}
	case *image.NRGBA64:
		for i := 6; i+1 < len(img.Pix); i += 8 {
			img.Pix[i], img.Pix[i+1] = 0xFF, 0xFF
		}
	}
	return img
}
