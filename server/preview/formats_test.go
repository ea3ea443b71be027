package preview

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sample is a file of testdata. Those named quarters have the corners of quarters;
// common tools made them: libjpeg, libtiff, libwebp.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func typeOf(name string) string {
	return map[string]string{".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".tif": "image/tiff"}[filepath.Ext(name)]
}

// exifOf is Exif data with only an orientation.
func exifOf(order binary.AppendByteOrder, value uint16) []byte {
	tiff := []byte("II*\x00")
	if order == binary.BigEndian {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint16(order.AppendUint32(tiff, 8), 1)
	tiff = order.AppendUint16(order.AppendUint16(tiff, 0x0112), 3)
	tiff = order.AppendUint16(order.AppendUint32(tiff, 1), value)
	return append(tiff, 0, 0, 0, 0, 0, 0)
}

// pngWithExif puts Exif data before a chunk of a PNG file.
func pngWithExif(png []byte, before string, exif []byte) []byte {
	at := bytes.Index(png, []byte(before)) - 4
	return slices.Concat(pngChunk(png[:at:at], "eXIf", exif), png[at:])
}

// webpChunk is a padded chunk of a WebP file.
func webpChunk(name string, data ...[]byte) []byte {
	all := slices.Concat(data...)
	b := append(binary.LittleEndian.AppendUint32([]byte(name), uint32(len(all))), all...)
	return append(b, make([]byte, len(all)%2)...)
}

// webpOf is a WebP file of the extended form.
func webpOf(flags byte, w, h int, chunks ...[]byte) []byte {
	size := []byte{flags, 0, 0, 0, byte(w - 1), byte((w - 1) >> 8), 0, byte(h - 1), byte((h - 1) >> 8), 0}
	return webpChunk("RIFF", []byte("WEBP"), webpChunk("VP8X", size), slices.Concat(chunks...))
}

// webpFrameAt is a frame of an animation; x and y are even.
func webpFrameAt(x, y, w, h int, chunks []byte) []byte {
	at := []byte{byte(x / 2), 0, 0, byte(y / 2), 0, 0, byte(w - 1), 0, 0, byte(h - 1), 0, 0, 100, 0, 0, 0}
	return webpChunk("ANMF", at, chunks)
}

// chunksOf returns the chunks of a WebP file of the simple form.
func chunksOf(webp []byte) []byte { return webp[12:] }

// setTag changes a tag of a TIFF file that has one number.
func setTag(t testing.TB, content []byte, tag int, value uint16) []byte {
	t.Helper()
	content = bytes.Clone(content)
	file, err := parseTIFF(content)
	if err != nil || file.entry(tag) == nil {
		t.Fatalf("there is no tag %d: %v", tag, err)
	}
	file.order.PutUint16(file.entry(tag)[8:], value)
	return content
}

func TestAThumbnailIsUprightWhateverTheFormat(t *testing.T) {
	t.Parallel()
	r, g, b, w := corners[0], corners[1], corners[2], corners[3]
	png, lossless := encoded(t, "image/png", quarters(64, 32)), chunksOf(sample(t, "lossless.webp"))
	tiffs := [][]byte{sample(t, "jpeg_tiles.tif"), sample(t, "jpeg_rgb_strips.tif"), sample(t, "cmyk_lzw.tif")}
	for value, want := range map[uint16][]color.NRGBA{
		1: {r, g, b, w}, 2: {g, r, w, b}, 3: {w, b, g, r}, 4: {b, w, r, g},
		5: {r, b, g, w}, 6: {b, r, w, g}, 7: {w, g, b, r}, 8: {g, w, r, b}, 9: {r, g, b, w},
	} {
		check := func(what string, content []byte, mimeType string) {
			t.Helper()
			what = fmt.Sprintf("%s, orientation %d", what, value)
			picture, err := thumbnailOf(content, mimeType)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if size := picture.Bounds().Size(); (size.X < size.Y) != (value >= 5 && value <= 8) {
				t.Errorf("%s: it is %v", what, size)
			}
			checkCorners(t, what, picture, want)
		}
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			exif := exifOf(order, value)
			name := order.String()
			check(name+" before the picture of a PNG", pngWithExif(png, "IDAT", exif), "image/png")
			check(name+" after it", pngWithExif(png, "IEND", exif), "image/png")
			check(name+" in a WebP", webpOf(8, 64, 32, lossless, webpChunk("EXIF", exif)), "image/webp")
			check(name+" in a WebP, as in a JPEG", webpOf(8, 64, 32, lossless, webpChunk("EXIF", exifPrefix, exif)), "image/webp")
			check(name+" in an animation", webpOf(10, 64, 32, webpFrameAt(0, 0, 64, 32, lossless), webpChunk("EXIF", exif)), "image/webp")
		}
		for i, tiff := range tiffs {
			check(fmt.Sprintf("TIFF %d", i), setTag(t, tiff, tagOrientation, value), "image/tiff")
		}
	}
}

// lowestFirst reverses the bits of a fax, and of the tag for their order.
func lowestFirst(t *testing.T, file []byte) []byte {
	file = setTag(t, file, tagFillOrder, 2)
	parsed, err := parseTIFF(file)
	if err != nil {
		t.Fatal(err)
	}
	at, n := parsed.number(tagStripOffsets, 0, 0), parsed.number(tagStripByteCounts, 0, 0)
	for i, b := range file[at : at+n] {
		file[at+i] = bits.Reverse8(b)
	}
	return file
}

// Files that viewers display, in the forms that programs write.
func TestAThumbnailOfEveryForm(t *testing.T) {
	t.Parallel()
	black, white := color.NRGBA{0, 0, 0, 255}, color.NRGBA{255, 255, 255, 255}
	checkers, negative := []color.NRGBA{black, white, white, black}, []color.NRGBA{white, black, black, white}
	gray := func(y uint8) color.NRGBA { return color.NRGBA{y, y, y, 255} }
	adobe := sample(t, "cmyk.jpg")
	at := bytes.Index(adobe, []byte("Adobe")) - 4
	lossy, alpha := chunksOf(sample(t, "lossy.webp")), chunksOf(sample(t, "lossy_alpha.webp"))
	for name, c := range map[string]struct {
		content []byte
		size    image.Point
		corners []color.NRGBA // nil for those of quarters
	}{
		"progressive.jpg":                        {sample(t, "progressive.jpg"), image.Pt(256, 194), nil},
		"cmyk.jpg":                               {adobe, image.Pt(128, 64), nil},
		"does not say what is CMYK.jpg":          {slices.Concat(adobe[:at], adobe[at+16:]), image.Pt(128, 64), nil},
		"jpeg_tiles.tif":                         {sample(t, "jpeg_tiles.tif"), image.Pt(256, 128), nil},
		"jpeg_rgb_strips.tif":                    {sample(t, "jpeg_rgb_strips.tif"), image.Pt(256, 128), nil},
		"jpeg_cmyk.tif":                          {sample(t, "jpeg_cmyk.tif"), image.Pt(256, 128), nil},
		"jpeg_gray.tif":                          {sample(t, "jpeg_gray.tif"), image.Pt(256, 128), []color.NRGBA{gray(76), gray(150), gray(29), white}},
		"negative of jpeg_gray.tif":              {setTag(t, sample(t, "jpeg_gray.tif"), tagPhotometric, photometricWhiteIsZero), image.Pt(256, 128), []color.NRGBA{gray(179), gray(105), gray(226), black}},
		"cmyk_lzw.tif":                           {sample(t, "cmyk_lzw.tif"), image.Pt(256, 128), nil},
		"cmyk_strips.tif":                        {sample(t, "cmyk_strips.tif"), image.Pt(256, 128), nil},
		"fax_g3.tif":                             {sample(t, "fax_g3.tif"), image.Pt(256, 128), checkers},
		"fax_g3_aligned.tif":                     {sample(t, "fax_g3_aligned.tif"), image.Pt(256, 128), checkers},
		"lowest bit first of fax_g3_aligned.tif": {lowestFirst(t, sample(t, "fax_g3_aligned.tif")), image.Pt(256, 128), checkers},
		"fax_g4.tif":                             {sample(t, "fax_g4.tif"), image.Pt(256, 128), checkers},
		"negative of fax_g3.tif":                 {setTag(t, sample(t, "fax_g3.tif"), tagPhotometric, photometricWhiteIsZero), image.Pt(256, 128), negative},
		"negative of fax_g4.tif":                 {setTag(t, sample(t, "fax_g4.tif"), tagPhotometric, photometricWhiteIsZero), image.Pt(256, 128), negative},
		"lossless.webp":                          {sample(t, "lossless.webp"), image.Pt(64, 32), nil},
		"lossy.webp":                             {sample(t, "lossy.webp"), image.Pt(64, 32), nil},
		"says alpha and has none.webp":           {webpOf(16, 64, 32, lossy), image.Pt(64, 32), nil},
		"animated lossy.webp":                    {webpOf(2, 64, 32, webpChunk("ANIM", make([]byte, 6)), webpFrameAt(0, 0, 64, 32, lossy), webpFrameAt(0, 0, 64, 32, alpha)), image.Pt(64, 32), nil},
		"animated lossless without ANIM.webp":    {webpOf(2, 64, 32, webpFrameAt(0, 0, 64, 32, chunksOf(sample(t, "lossless.webp")))), image.Pt(64, 32), nil},
	} {
		picture, err := thumbnailOf(c.content, typeOf(name))
		if err != nil || picture.Bounds().Size() != c.size {
			t.Errorf("%s: %v, %v", name, picture, err)
			continue
		}
		if c.corners == nil {
			c.corners = corners
		}
		checkCorners(t, name, picture, c.corners)
	}
}

// Files from cameras, scanners and programs, with the sizes of their thumbnails.
func TestThumbnailsOfFilesFromTheField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size image.Point
		at   image.Point // a point that has this color
		is   color.NRGBA
	}{
		"turned_phone.webp":         {image.Pt(192, 256), image.Pt(10, 128), color.NRGBA{20, 7, 240, 255}},
		"turned_screen.png":         {image.Pt(192, 256), image.Pt(10, 128), color.NRGBA{20, 7, 240, 255}},
		"download_cut_short.jpg":    {image.Pt(256, 192), image.Pt(128, 180), color.NRGBA{128, 128, 128, 255}},
		"optimised_first_frame.gif": {image.Pt(100, 100), image.Pt(50, 50), color.NRGBA{0, 0, 255, 255}},
		"sticker_animated.webp":     {image.Pt(160, 120), image.Pt(24, 50), color.NRGBA{0, 255, 255, 255}},
		"colour_scan_jpeg.tif":      {image.Pt(256, 192), image.Pt(128, 2), color.NRGBA{255, 0, 0, 255}},
	} {
		picture, err := thumbnailOf(sample(t, name), typeOf(name))
		if err != nil || picture.Bounds().Size() != c.size {
			t.Errorf("%s: %v, %v", name, picture, err)
			continue
		}
		r, g, b, a := picture.At(c.at.X, c.at.Y).RGBA()
		got := []int{int(r >> 8), int(g >> 8), int(b >> 8), int(a >> 8)}
		for i, want := range []uint8{c.is.R, c.is.G, c.is.B, c.is.A} {
			if got[i] < int(want)-24 || got[i] > int(want)+24 {
				t.Errorf("%s: at %v it is %v, want %v", name, c.at, got, c.is)
				break
			}
		}
	}
}

// The first frame is at its offset on the canvas, and the rest of the canvas is empty.
func TestAFrameIsPutOnItsCanvas(t *testing.T) {
	t.Parallel()
	red, offset := color.NRGBA{255, 0, 0, 255}, image.Pt(40, 20)
	frame := image.NewPaletted(image.Rect(40, 20, 60, 36), color.Palette{red, color.Transparent})
	frame.SetColorIndex(41, 21, 1) // transparent
	var animation bytes.Buffer
	if err := gif.EncodeAll(&animation, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{1, 1}, Config: image.Config{Width: 100, Height: 80, ColorModel: frame.Palette}}); err != nil {
		t.Fatal(err)
	}
	lossless := chunksOf(sample(t, "lossless.webp"))
	for name, c := range map[string]struct {
		content []byte
		size    image.Point
		clear   []image.Point
	}{
		"a.gif":     {animation.Bytes(), image.Pt(100, 80), []image.Point{{0, 0}, {39, 20}, {41, 21}, {60, 20}, {40, 36}, {99, 79}}},
		"a.webp":    {webpOf(2+16, 160, 120, webpFrameAt(40, 20, 64, 32, lossless)), image.Pt(160, 120), []image.Point{{0, 0}, {39, 20}, {104, 20}, {40, 52}, {159, 119}}},
		"half.webp": {webpOf(2+16, 512, 256, webpFrameAt(40, 20, 64, 32, lossless)), image.Pt(256, 128), []image.Point{{0, 0}, {15, 10}, {60, 20}}},
	} {
		picture, err := thumbnailOf(c.content, typeOf(name))
		if err != nil || picture.Bounds().Size() != c.size {
			t.Errorf("%s: %v, %v", name, picture, err)
			continue
		}
		at := offset.Add(image.Pt(2, 2))
		if name == "half.webp" {
			at = image.Pt(24, 14)
		}
		if r, g, _, a := picture.At(at.X, at.Y).RGBA(); r < 0xE000 || g > 0x1000 || a != 0xFFFF {
			t.Errorf("%s: at %v it is %v", name, at, picture.At(at.X, at.Y))
		}
		for _, p := range c.clear {
			if _, _, _, a := picture.At(p.X, p.Y).RGBA(); a != 0 {
				t.Errorf("%s: at %v there is %v", name, p, picture.At(p.X, p.Y))
			}
		}
	}
	for name, content := range map[string][]byte{
		"beyond its canvas":  webpOf(2, 64, 32, webpFrameAt(2, 0, 64, 32, lossless)),
		"not as large as":    webpOf(2, 160, 120, webpFrameAt(150, 0, 8, 8, lossless)),
		"without a frame":    webpOf(2, 64, 32),
		"cut in the frame":   webpOf(2, 64, 32, webpFrameAt(0, 0, 64, 32, lossless))[:60],
		"with a huge canvas": webpOf(2, 65_536, 65_536, webpFrameAt(0, 0, 64, 32, lossless)),
	} {
		if _, err := thumbnailOf(content, "image/webp"); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The thumbnail of a truncated JPEG has the intact part, and gray. A JPEG that lacks
// only its end marker, or is followed by other bytes, is whole.
func TestAThumbnailOfWhatIsLeftOfAJPEG(t *testing.T) {
	t.Parallel()
	baseline, progressive := encoded(t, "image/jpeg", quarters(400, 304)), sample(t, "progressive.jpg")
	upper := []color.NRGBA{corners[0], corners[1], {128, 128, 128, 255}, {128, 128, 128, 255}}
	for name, c := range map[string]struct {
		content []byte
		corners []color.NRGBA
	}{
		"baseline without an end":     {baseline[:len(baseline)-2], corners},
		"baseline with half an end":   {baseline[:len(baseline)-1], corners},
		"baseline and another":        {slices.Concat(baseline, make([]byte, 99), baseline, []byte("MotionPhoto_Data")), corners},
		"baseline without a tenth":    {cut(baseline, 90), corners},
		"baseline without two fifths": {cut(baseline, 60), upper},
		"progressive without an end":  {progressive[:len(progressive)-2], corners},
		"progressive without a fifth": {cut(progressive, 80), corners},
		"progressive, half":           {cut(progressive, 50), corners},
		"progressive, the first scan": {cut(progressive, 28), upper},
		"turned, and cut":             {cut(withOrientation(baseline, binary.BigEndian, 3), 60), []color.NRGBA{upper[2], upper[3], corners[1], corners[0]}},
	} {
		picture, err := thumbnailOf(c.content, "image/jpeg")
		if err != nil || picture.Bounds().Size() != image.Pt(256, 194) {
			t.Errorf("%s: %v, %v", name, picture, err)
			continue
		}
		checkCorners(t, name, picture, c.corners)
	}
	scan := bytes.Index(baseline, []byte{0xFF, markerSOS})
	for name, content := range map[string][]byte{
		"no data":         baseline[:scan+14],
		"no scan":         baseline[:scan],
		"no picture":      bytes.Repeat([]byte("This is a letter. "), 1000),
		"starts like one": append([]byte{0xFF, 0xD8, 0xFF, 0xE0}, bytes.Repeat([]byte("This is a letter. "), 1000)...),
	} {
		if _, err := thumbnailOf(content, "image/jpeg"); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cut keeps a percentage of a scan's data, or of all data if there are many scans.
func cut(jpeg []byte, hundredths int) []byte {
	from := bytes.Index(jpeg, []byte{0xFF, markerSOS})
	return jpeg[:from+(len(jpeg)-from)*hundredths/100]
}

// A tile that is missing or damaged is gray in the thumbnail.
func TestATIFFWithADamagedStripHasAThumbnail(t *testing.T) {
	t.Parallel()
	content := bytes.Clone(sample(t, "jpeg_rgb_strips.tif"))
	file, err := parseTIFF(content)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[file.number(tagStripOffsets, 2, 0):][:file.number(tagStripByteCounts, 2, 0)])
	picture, err := thumbnailOf(content, "image/tiff")
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := picture.At(60, 110).RGBA(); r>>8 != 128 || g>>8 != 128 || b>>8 != 128 {
		t.Errorf("it is %v", picture.At(60, 110))
	}
	clear(content[file.number(tagStripOffsets, 0, 0):][:file.number(tagStripByteCounts, 0, 0)])
	if _, err := thumbnailOf(content, "image/tiff"); !errors.Is(err, ErrNone) {
		t.Errorf("with nothing to begin with: %v", err)
	}
}

// gray48 is a photograph of 48 megapixels, as phones take them, of a single gray: each
// of its blocks is the same six bits.
func gray48(t testing.TB) []byte {
	small := encoded(t, "image/jpeg", image.NewGray(image.Rect(0, 0, 8, 8)))
	binary.BigEndian.PutUint32(small[bytes.Index(small, []byte{0xFF, 0xC0, 0, 11})+5:], 6048<<16|8064)
	data := bytes.Index(small, []byte{0xFF, markerSOS}) + 10
	return slices.Concat(small[:data], bytes.Repeat([]byte{0x28, 0xA2, 0x8A}, 6048*8064/64/4), []byte{0xFF, markerEOI})
}

// A photograph of 48 megapixels is within the limits of a decoder process, also when a
// part of it is missing.
func TestAPhotographOf48MegapixelsHasAThumbnail(t *testing.T) {
	t.Parallel()
	skipWithRaces(t)
	whole := gray48(t)
	for name, content := range map[string][]byte{"whole": whole, "cut": cut(whole, 20)} {
		raw, err := DecodeInProcess(t.Context(), bytes.NewReader(content), int64(len(content)), "image/jpeg", 192<<20)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if size, _, err := image.DecodeConfig(bytes.NewReader(raw)); err != nil || size.Width != 256 || size.Height != 192 {
			t.Errorf("%s: it is %v: %v", name, size, err)
		}
	}
}
