//go:build unix

package durability

import (
	"bytes"
	"testing"
)

func TestAnAcknowledgedUploadSurvivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	content := []byte("kept")
	saved, err := p.upload(product, "a.txt", content)
	must(t, err)
	if saved.status != 201 {
		t.Fatalf("the upload was answered %d: %s", saved.status, saved.body)
	}
	p.kill()
	p = serve(t, dir)
	got, err := p.download(saved.id())
	must(t, err)
	if got.status != 200 || !bytes.Equal(got.body, content) {
		t.Errorf("after the kill: %d %q", got.status, got.body)
	}
	p.stop(t)
	wantSound(t, dir)
}
