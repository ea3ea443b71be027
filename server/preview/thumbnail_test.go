package preview

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"attachd/blobs/blobstest"
)

// quarters is a picture with a color in each corner: red, green, blue, white.
func quarters(w, h int) *image.NRGBA {
	picture := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			picture.SetNRGBA(x, y, corners[2*(2*y/h)+2*x/w])
		}
	}
	return picture
}

var corners = []color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 255}}

func encoded(t testing.TB, mimeType string, picture image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	encode := map[string]func(io.Writer, image.Image) error{
		"image/png":  png.Encode,
		"image/jpeg": func(w io.Writer, p image.Image) error { return jpeg.Encode(w, p, nil) },
		"image/gif":  func(w io.Writer, p image.Image) error { return gif.Encode(w, p, nil) },
		"image/bmp":  bmp.Encode,
		"image/tiff": func(w io.Writer, p image.Image) error {
			return tiff.Encode(w, p, &tiff.Options{Compression: tiff.Deflate})
		},
	}[mimeType]
	if err := encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func thumbnailOf(content []byte, mimeType string) (image.Image, error) {
	raw, err := Thumbnail(context.Background(), bytes.NewReader(content), int64(len(content)), mimeType)
	if err != nil {
		return nil, err
	}
	picture, _, err := image.Decode(bytes.NewReader(raw))
	return picture, err
}

func TestAThumbnailLooksLikeItsPicture(t *testing.T) {
	t.Parallel()
	for _, mimeType := range []string{"image/png", "image/jpeg", "image/gif", "image/bmp", "image/tiff"} {
		for _, c := range []struct{ from, to image.Point }{
			{image.Pt(2, 2), image.Pt(2, 2)},
			{image.Pt(256, 256), image.Pt(256, 256)},
			{image.Pt(300, 100), image.Pt(256, 85)},
			{image.Pt(1000, 1500), image.Pt(170, 256)},
			{image.Pt(3000, 2), image.Pt(256, 1)},
		} {
			picture, err := thumbnailOf(encoded(t, mimeType, quarters(c.from.X, c.from.Y)), mimeType)
			if err != nil || picture.Bounds().Size() != c.to {
				t.Errorf("%s of %v: %v, %v", mimeType, c.from, picture, err)
				continue
			}
			if c.to.Y > 10 {
				checkCorners(t, mimeType, picture, corners)
			}
		}
	}
}

// checkCorners compares the colors in the middle of each quarter.
func checkCorners(t *testing.T, what string, picture image.Image, want []color.NRGBA) {
	t.Helper()
	size := picture.Bounds().Size()
	for i, c := range want {
		x, y := size.X/4+i%2*size.X/2, size.Y/4+i/2*size.Y/2
		r, g, b, _ := picture.At(x, y).RGBA()
		if near := func(a uint32, b uint8) bool { return max(int(a>>8)-int(b), int(b)-int(a>>8)) < 24 }; !near(r, c.R) || !near(g, c.G) || !near(b, c.B) {
			t.Errorf("%s: at %d, %d it is %v, want %v", what, x, y, picture.At(x, y), c)
		}
	}
}

func TestWhatIsSeenThroughStaysSo(t *testing.T) {
	t.Parallel()
	picture := image.NewNRGBA(image.Rect(0, 0, 600, 600))
	for i := 3; i < len(picture.Pix); i += 4 {
		picture.Pix[i] = 128
	}
	got, err := thumbnailOf(encoded(t, "image/png", picture), "image/png")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, a := got.At(100, 100).RGBA(); a>>8 != 128 {
		t.Errorf("alpha is %d", a>>8)
	}
}

// withOrientation puts an Exif segment into a JPEG file.
func withOrientation(jpeg []byte, order binary.AppendByteOrder, value uint16) []byte {
	segment := slices.Concat(exifPrefix, exifOf(order, value))
	out := append([]byte{0xFF, 0xD8, 0xFF, 0xE1}, byte((len(segment)+2)>>8), byte(len(segment)+2))
	return append(append(out, segment...), jpeg[2:]...)
}

func TestAThumbnailIsUpright(t *testing.T) {
	t.Parallel()
	file := encoded(t, "image/jpeg", quarters(64, 32))
	r, g, b, w := corners[0], corners[1], corners[2], corners[3]
	for value, want := range map[uint16][]color.NRGBA{
		0: {r, g, b, w}, 1: {r, g, b, w}, 2: {g, r, w, b}, 3: {w, b, g, r}, 4: {b, w, r, g},
		5: {r, b, g, w}, 6: {b, r, w, g}, 7: {w, g, b, r}, 8: {g, w, r, b}, 9: {r, g, b, w},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			picture, err := thumbnailOf(withOrientation(file, order, value), "image/jpeg")
			if err != nil {
				t.Fatal(err)
			}
			if turned := picture.Bounds().Dx() == 32; turned != (value >= 5 && value <= 8) {
				t.Errorf("orientation %d: it is %v", value, picture.Bounds())
			}
			checkCorners(t, fmt.Sprintf("orientation %d", value), picture, want)
		}
	}
}

// pngHeader claims the given size, with eight bytes per pixel, and has a few bytes of
// data without an end.
func pngHeader(w, h uint32) []byte {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	b := pngChunk([]byte("\x89PNG\r\n\x1a\n"), "IHDR", append(header, 16, 6, 0, 0, 0))
	return pngChunk(b, "IDAT", []byte("\x78\x9c\x63\x00\x00"))
}

func pngChunk(b []byte, kind string, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	whole := append([]byte(kind), data...)
	return binary.BigEndian.AppendUint32(append(b, whole...), crc32.ChecksumIEEE(whole))
}

func gifHeader(w, h uint16) []byte {
	b := binary.LittleEndian.AppendUint16([]byte("GIF89a"), w)
	b = append(binary.LittleEndian.AppendUint16(b, h), 0x80, 0, 0, 0, 0, 0, 255, 255, 255)
	b = binary.LittleEndian.AppendUint16(append(b, 0x2C, 0, 0, 0, 0), w)
	return append(binary.LittleEndian.AppendUint16(b, h), 0, 2, 1, 0, 0)
}

func bmpHeader(w, h uint32) []byte {
	b := append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"), make([]byte, 36)...)
	binary.LittleEndian.PutUint32(b[18:], w)
	binary.LittleEndian.PutUint32(b[22:], h)
	b[26], b[28] = 1, 24
	return b
}

// frameOf changes the size that a JPEG file claims.
func frameOf(jpeg []byte, w, h uint16) []byte {
	b := bytes.Clone(jpeg)
	at := bytes.Index(b, []byte{0xFF, 0xC0, 0, 17})
	binary.BigEndian.PutUint16(b[at+5:], h)
	binary.BigEndian.PutUint16(b[at+7:], w)
	return b
}

// Files that claim much and contain little: none may cost more than a picture that has
// a thumbnail.
// ASVS 5.2.6
func TestNoPictureIsExpensive(t *testing.T) {
	jpeg := encoded(t, "image/jpeg", quarters(64, 32))
	for _, c := range []struct {
		name, mimeType string
		content        []byte
		most           uint64 // MB
	}{
		{"PNG 50,000 x 50,000", "image/png", pngHeader(50_000, 50_000), 1},
		{"PNG 100,000 x 100,000", "image/png", pngHeader(100_000, 100_000), 1},
		{"PNG of the largest size", "image/png", pngHeader(1<<31-1, 1<<31-1), 1},
		{"PNG just too large", "image/png", pngHeader(40_000_001, 1), 1},
		{"PNG with too many bytes a pixel", "image/png", pngHeader(6000, 6000), 1},
		{"PNG as large as may be", "image/png", pngHeader(4000, 5000), 165},
		{"GIF 65,535 x 65,535", "image/gif", gifHeader(65_535, 65_535), 1},
		{"GIF as large as may be", "image/gif", gifHeader(8000, 5000), 60},
		{"BMP 50,000 x 50,000", "image/bmp", bmpHeader(50_000, 50_000), 1},
		{"BMP as large as may be", "image/bmp", bmpHeader(8000, 5000), 165},
		{"JPEG 65,535 x 65,535", "image/jpeg", frameOf(jpeg, 65_535, 65_535), 1},
		{"JPEG as large as may be", "image/jpeg", frameOf(jpeg, 8000, 5000), 165},
		{"nothing", "image/png", nil, 1},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := blobstest.Worktime()
		_, err := thumbnailOf(c.content, c.mimeType)
		took := blobstest.Worktime() - began
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", c.name, err)
		}
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > c.most {
			t.Errorf("%s took %d MB: %v", c.name, used, err)
		}
		if took > 10*time.Second {
			t.Errorf("%s took %v", c.name, took)
		}
	}
}

func TestACutPictureHasNoThumbnail(t *testing.T) {
	t.Parallel()
	for _, mimeType := range []string{"image/png", "image/jpeg", "image/gif", "image/bmp", "image/tiff"} {
		whole := encoded(t, mimeType, quarters(40, 40))
		for n := 0; n < len(whole)-len(whole)/4; n += 1 + len(whole)/50 {
			if _, err := thumbnailOf(whole[:n], mimeType); err != nil && !errors.Is(err, ErrNone) {
				t.Errorf("%d bytes of a %s: %v", n, mimeType, err)
			} else if err == nil && mimeType != "image/gif" && mimeType != "image/jpeg" {
				t.Errorf("%d of %d bytes of a %s have a thumbnail", n, len(whole), mimeType)
			}
		}
	}
}

// Errors that are not the file's fault are distinguished from those that are.
func TestAThumbnailEndsWithItsContextOrReader(t *testing.T) {
	t.Parallel()
	file := encoded(t, "image/png", quarters(400, 400))
	gone, leave := context.WithCancel(context.Background())
	leave()
	if _, err := Thumbnail(gone, bytes.NewReader(file), int64(len(file)), "image/png"); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
	if _, err := Thumbnail(context.Background(), failing{}, int64(len(file)), "image/png"); !errors.Is(err, errDisk) {
		t.Errorf("with a disk that fails: %v", err)
	}
}

var errDisk = errors.New("the disk failed")

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// fuzzMemory is the memory limit of a picture in FuzzThumbnail, in bytes: enough for
// each path of each decoder, and so little that none takes long. An input is tried a
// hundred times while it is minimized, and a part of a JPEG in up to ten steps.
const fuzzMemory = 256 << 10

// For any bytes, there is a thumbnail or none.
// ASVS 5.2.6
func FuzzThumbnail(f *testing.F) {
	types := []string{"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"}
	for i, mimeType := range types {
		if mimeType != "image/webp" {
			f.Add(encoded(f, mimeType, quarters(9, 5)), uint8(i))
		}
	}
	jpeg := encoded(f, "image/jpeg", quarters(16, 8))
	f.Add(withOrientation(jpeg, binary.BigEndian, 6), uint8(1))
	f.Add(frameOf(jpeg, 60_000, 60_000), uint8(1))
	f.Add(pngHeader(50_000, 50_000), uint8(0))
	webp, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(webp, uint8(3))
	samples, err := filepath.Glob(filepath.Join("testdata", "*.*"))
	if err != nil || len(samples) == 0 {
		f.Fatal("no samples: ", err)
	}
	for _, name := range samples {
		content := sample(f, filepath.Base(name))
		f.Add(content, uint8(slices.Index(types, typeOf(name))))
		f.Add(content[:len(content)/2], uint8(slices.Index(types, typeOf(name))))
		f.Add(content[:len(content)*3/4], uint8(slices.Index(types, typeOf(name))))
	}
	whole := encoded(f, "image/jpeg", quarters(64, 48))
	f.Add(whole[:len(whole)*3/4], uint8(1))
	f.Add(encoded(f, "image/png", quarters(300, 9)), uint8(0))
	lossless := chunksOf(sample(f, "lossless.webp"))
	f.Add(webpOf(8, 64, 32, lossless, webpChunk("EXIF", exifOf(binary.BigEndian, 6))), uint8(3))
	f.Add(webpOf(2, 160, 120, webpFrameAt(40, 20, 64, 32, lossless)), uint8(3))
	f.Add(pngWithExif(encoded(f, "image/png", quarters(9, 5)), "IEND", exifOf(binary.BigEndian, 6)), uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, which uint8) {
		mimeType := types[int(which)%len(types)]
		begin := func(bool) io.Reader { return bytes.NewReader(content) }
		raw, err := thumbnailWithin(t.Context(), begin, int64(len(content)), mimeType, fuzzMemory)
		switch {
		case err != nil && !errors.Is(err, ErrNone):
			t.Fatal(err)
		case err == nil:
			picture, _, err := image.DecodeConfig(bytes.NewReader(raw))
			if err != nil || min(picture.Width, picture.Height) < 1 || max(picture.Width, picture.Height) > ThumbnailSize {
				t.Fatalf("it is %d x %d: %v", picture.Width, picture.Height, err)
			}
		}
	})
}
