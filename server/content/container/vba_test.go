package container

import "testing"

// TestSourceIsDecompressed tests decompressVBA with the example of MS-OVBA, section 3.2.2, which contains copies.
func TestSourceIsDecompressed(t *testing.T) {
	const compressed = "\x01\x2F\xB0\x00\x23\x61\x61\x61\x62\x63\x64\x65\x82\x66\x00\x70\x61\x67\x68\x69\x6A\x01\x38\x08\x61\x6B\x6C\x00\x30\x6D\x6E\x6F\x70\x06\x71\x02\x70\x04\x10\x72\x73\x74\x75\x76\x10\x77\x78\x79\x7A\x00\x3C"
	const want = "#aaabcdefaaaaghijaaaaaklaaamnopqaaaaaaaaaaaarstuvwxyzaaa"
	if got := decompressVBA([]byte(compressed)); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
