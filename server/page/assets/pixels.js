// How many pixels a picture has, by its first bytes: a small file may be a
// picture that takes gigabytes of memory once the browser decodes it.

// headBytes is how much of a file is looked at. A photograph may have its
// size behind what the camera, and then a program, says of it.
export const headBytes = 512 << 10;

// pixelsOf gives their number, or Infinity where it cannot be told.
export function pixelsOf(type, buffer) {
  const view = new DataView(buffer);
  try {
    const [width, height] = sizes[type](view);
    return width * height;
  } catch {
    return Infinity; // it ends too early, or has another form
  }
}

const text = (view, at, n) => String.fromCharCode(...new Uint8Array(view.buffer, at, n));
const uint24 = (view, at) => view.getUint16(at, true) | view.getUint8(at + 2) << 16;

const sizes = {
  'image/png': (v) => [v.getUint32(16), v.getUint32(20)],
  'image/gif': (v) => [v.getUint16(6, true), v.getUint16(8, true)],
  'image/bmp': (v) => (v.getUint32(14, true) === 12 ? [v.getUint16(18, true), v.getUint16(20, true)] : [Math.abs(v.getInt32(18, true)), Math.abs(v.getInt32(22, true))]),
  'image/jpeg': jpeg,
  'image/webp': webp,
  'image/avif': avif,
  'image/svg+xml': svg,
};

// jpeg goes from segment to segment up to the start of a frame.
function jpeg(v) {
  for (let at = 2; ;) {
    while (v.getUint8(at) !== 0xff) at++;
    while (v.getUint8(at) === 0xff) at++;
    const marker = v.getUint8(at++);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [v.getUint16(at + 5), v.getUint16(at + 3)];
    at += marker === 1 || marker >= 0xd0 && marker <= 0xd8 ? 0 : v.getUint16(at);
  }
}

function webp(v) {
  switch (text(v, 12, 4)) {
    case 'VP8X': return [uint24(v, 24) + 1, uint24(v, 27) + 1];
    case 'VP8L': return [(v.getUint32(21, true) & 0x3fff) + 1, (v.getUint32(21, true) >> 14 & 0x3fff) + 1];
    default: return [v.getUint16(26, true) & 0x3fff, v.getUint16(28, true) & 0x3fff];
  }
}

// avif takes the largest of the boxes that have a size: a picture may be put
// together of others.
function avif(v) {
  let largest = null;
  for (let at = 0; at + 16 <= v.byteLength; at++) {
    if (v.getUint32(at) !== 0x69737065) continue; // ispe
    const found = [v.getUint32(at + 8), v.getUint32(at + 12)];
    if (!largest || found[0] * found[1] > largest[0] * largest[1]) largest = found;
  }
  return largest;
}

// svg is drawn as large as it is shown, but for pictures that are in it.
function svg(v) {
  const source = new TextDecoder().decode(v);
  return /<[\w:.-]*image\b|data:|<!ENTITY|\0/i.test(source) || v.byteLength >= headBytes ? null : [0, 0];
}
