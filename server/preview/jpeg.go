package preview

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"runtime"
)

// openJPEG opens a JPEG picture, whole or truncated.
func openJPEG(f *file) (picture, error) {
	h := readJPEG(f.rewind(false))
	config, err := jpeg.DecodeConfig(h.mended(f.rewind(false), 0, 0))
	if err != nil {
		return picture{}, err
	}
	p := picture{Config: config, pixels: maxPixelsJPEG, cost: h.cost(config)}
	p.decode = func() (image.Image, int, error) {
		img, err := h.decode(f, config)
		return img, h.orientation, err
	}
	return p, nil
}

// Marker codes of JPEG (ITU-T T.81, table B.1).
const (
	markerTEM     = 0x01
	markerSOF0    = 0xC0 // baseline
	markerSOF2    = 0xC2 // progressive
	markerRST0    = 0xD0
	markerEOI     = 0xD9
	markerSOS     = 0xDA
	markerAPP1    = 0xE1 // Exif, among others
	markerAPP14   = 0xEE // Adobe's
	componentSize = 3    // bytes of a component in a frame header
)

// jpegHeader holds what the decoder does not report about a JPEG file.
type jpegHeader struct {
	progressive bool    // coded in several scans
	samples     float64 // per pixel
	components  int
	unitHeight  int   // rows of pixels that are coded together
	heightAt    int64 // where in the file the frame's height is
	adobe       bool  // there is a segment that defines the meaning of four components
	orientation int
}

// readJPEG parses segments up to the frame header (T.81, section B.2). The decoder
// cannot read a file of which this cannot.
func readJPEG(r io.Reader) jpegHeader {
	h := jpegHeader{samples: 4, unitHeight: 8}
	for s := newSegments(r); ; {
		marker, err := s.next()
		if err != nil {
			return h
		}
		frame := marker >= markerSOF0 && marker <= markerSOF2
		h.adobe = h.adobe || marker == markerAPP14
		if !frame && marker != markerAPP1 {
			continue
		}
		if frame {
			h.heightAt = s.at + 1 // after the precision
		}
		data, err := s.data()
		if err != nil {
			return h
		}
		if frame {
			h.progressive = marker == markerSOF2
			h.readFrame(data)
			return h
		}
		if h.orientation == 0 && bytes.HasPrefix(data, exifPrefix) {
			h.orientation = orientationIn(data)
		}
	}
}

// readFrame counts the samples per pixel: a subsampled component has fewer (T.81,
// section A.1.1).
func (h *jpegHeader) readFrame(frame []byte) {
	if len(frame) < 6 || len(frame) < 6+componentSize*int(frame[5]) {
		return
	}
	h.components = int(frame[5])
	var sum, maxH, maxV int
	for i := range h.components {
		x, y := int(frame[7+componentSize*i]>>4), int(frame[7+componentSize*i]&15)
		sum, maxH, maxV = sum+x*y, max(maxH, x), max(maxV, y)
	}
	if maxH*maxV > 0 {
		h.samples = float64(sum) / float64(maxH*maxV)
		h.unitHeight = 8 * maxV
	}
}

// cost is the memory that decoding needs, in bytes per pixel: a progressive picture
// keeps four bytes per coefficient until its last scan, and colors that are not
// luminance and chrominance are assembled at the end.
func (h *jpegHeader) cost(c image.Config) float64 {
	cost := h.samples
	if h.progressive {
		cost *= 5
	}
	if c.ColorModel != color.GrayModel && c.ColorModel != color.YCbCrModel {
		cost += 4
	}
	return cost
}

// adobeCMYK is the segment that declares four components to be cyan, magenta, yellow
// and black, inverted: all programs take a file without it to be that.
var adobeCMYK = append([]byte{0xFF, markerAPP14, 0, 14}, "Adobe\x00\x64\x00\x00\x00\x00\x00"...)

// mended is the file in a form that the decoder accepts: with an end marker, at end or
// at the file's own end, with another height, and with the meaning of four components.
// 0 leaves the end or the height unchanged.
func (h *jpegHeader) mended(r io.Reader, end int64, height int) io.Reader {
	if height > 0 {
		r = &patched{r: r, where: h.heightAt, with: binary.BigEndian.AppendUint16(nil, uint16(height))}
	}
	if end > 0 {
		r = io.LimitReader(r, end)
	}
	r = io.MultiReader(r, bytes.NewReader([]byte{0xFF, markerEOI}))
	if h.components == 4 && !h.adobe {
		r = io.MultiReader(io.LimitReader(r, 2), bytes.NewReader(adobeCMYK), r)
	}
	return r
}

// patched is a reader that replaces bytes of a file.
type patched struct {
	r         io.Reader
	at, where int64
	with      []byte
}

func (p *patched) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	for i, c := range p.with {
		if k := p.where + int64(i) - p.at; k >= 0 && k < int64(n) {
			b[k] = c
		}
	}
	p.at += int64(n)
	return n, err
}

// decode returns the picture, or as much of a damaged one as can be decoded, if there
// is memory to keep the file meanwhile.
func (h *jpegHeader) decode(f *file, c image.Config) (image.Image, error) {
	keep := float64(c.Width)*float64(c.Height)*h.cost(c)+float64(f.size) <= f.memory
	img, err := jpeg.Decode(h.mended(f.rewind(!keep), 0, 0))
	var unsupported jpeg.UnsupportedError
	if err == nil || f.failed != nil || !keep || errors.As(err, &unsupported) {
		return img, err
	}
	if part := h.decodePart(f, c); part != nil {
		return onCanvas(part, image.Point{}, c, unknown), nil
	}
	return nil, err
}

const (
	// maxScans is how many scans are dropped, the last first, before the intact part of
	// the first one is searched for.
	maxScans = 3
	// partSteps is how many heights are tried: each halves the part whose state is
	// unknown, and the last is about two rows of the thumbnail.
	partSteps = 7
)

// decodePart drops the last scans if there are several, or else the lower part of the
// first; nil if nothing decodes. The decoder returns a picture only if it finds no
// fault, and so is given less of the file.
func (h *jpegHeader) decodePart(f *file, c image.Config) image.Image {
	scans := findScans(f.rewind(false))
	try := func(end int64, height int) image.Image {
		runtime.GC() // frees the last attempt's memory
		img, err := jpeg.Decode(h.mended(f.rewind(false), end, height))
		if err != nil || f.failed != nil {
			return nil
		}
		return img
	}
	for i := len(scans) - 1; i > 0 && i >= len(scans)-maxScans; i-- {
		if img := try(scans[i].at, 0); img != nil {
			return withoutColors(img, scans[:i])
		}
	}
	var end int64
	if len(scans) > 1 {
		end, scans = scans[1].at, scans[:1]
	}
	known, unknown := 0, (c.Height+h.unitHeight-1)/h.unitHeight // units that decode, and that are not known to
	for step := 0; step < partSteps && unknown-known > 1; step++ {
		middle := (known + unknown) / 2
		if try(end, middle*h.unitHeight) != nil {
			known = middle
		} else {
			unknown = middle
		}
	}
	if known == 0 {
		return nil
	}
	return withoutColors(try(end, known*h.unitHeight), scans)
}

// withoutColors makes a picture gray if no scan had its colors yet.
func withoutColors(img image.Image, scans []scan) image.Image {
	colors, ok := img.(*image.YCbCr)
	if !ok {
		return img
	}
	var seen [256]bool
	n := 0
	for _, s := range scans {
		for _, id := range s.components {
			if !seen[id] {
				seen[id], n = true, n+1
			}
		}
	}
	if n >= 3 {
		return img
	}
	return &image.Gray{Pix: colors.Y, Stride: colors.YStride, Rect: colors.Rect}
}

// scan is a scan of a JPEG file.
type scan struct {
	at         int64  // offset of its marker in the file
	components []byte // the components that it has data of
}

func findScans(r io.Reader) (found []scan) {
	for s := newSegments(r); ; {
		marker, err := s.next()
		if err != nil {
			return found
		}
		if marker != markerSOS {
			continue
		}
		at := s.at - 4 // of the marker, which is before the length
		data, err := s.data()
		if err != nil || len(data) < 1 || len(data) < 1+2*int(data[0]) {
			return found
		}
		one := scan{at: at}
		for i := range int(data[0]) {
			one.components = append(one.components, data[1+2*i])
		}
		found = append(found, one)
	}
}

// segments is an iterator over the segments of a JPEG file.
type segments struct {
	r      *bufio.Reader
	at     int64 // offset in the file
	length int   // bytes of the segment's data that were not read
}

func newSegments(r io.Reader) *segments { return &segments{r: bufio.NewReader(r)} }

// next skips to the data of the next segment that has some. Between segments are scans,
// in which a marker code is a stuffed byte or a restart.
func (s *segments) next() (marker byte, err error) {
	n, err := s.r.Discard(s.length)
	s.at, s.length = s.at+int64(n), 0
	for last := byte(0); err == nil; {
		var b byte
		if b, err = s.r.ReadByte(); err != nil {
			break
		}
		s.at++
		if last == 0xFF && b != 0xFF && b != 0 && b != markerTEM && (b < markerRST0 || b > markerEOI) {
			var length [2]byte
			n, err = io.ReadFull(s.r, length[:])
			s.at, s.length = s.at+int64(n), max(0, int(binary.BigEndian.Uint16(length[:]))-2)
			return b, err
		}
		last = b
	}
	return 0, err
}

// data returns the data of the segment, 64 KB at most.
func (s *segments) data() ([]byte, error) {
	data := make([]byte, s.length)
	n, err := io.ReadFull(s.r, data)
	s.at, s.length = s.at+int64(n), 0
	return data, err
}
