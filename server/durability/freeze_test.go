//go:build linux

package durability

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A virtual machine is stopped for a snapshot. Its clients wait, and their
// transfers must go on afterwards.
func TestAFreezeLongerThanTheServersPatienceCutsNoTransfer(t *testing.T) {
	if !*long {
		t.Skip("half a minute of standing still: run it with -long")
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var env []string
			if protocol == "HTTP/2.0" {
				env = selfSigned(t)
			}
			freezeAmidTransfers(t, serve(t, t.TempDir()+"/data", env...), protocol)
		})
	}
}

func freezeAmidTransfers(t *testing.T, p *process, protocol string) {
	t.Helper()
	connections := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	content := lines("sent and taken in two halves", 30<<20) // more than a kernel holds
	half := len(content) / 2
	kept, err := p.upload(product, "kept.txt", content)
	must(t, err)

	download, err := http.NewRequest("GET", p.url+"/catalog/attachments/"+kept.id()+"/download", nil)
	must(t, err)
	download.Header.Set("Authorization", "Bearer "+p.key)
	taken, err := connections.Do(download)
	must(t, err)
	defer taken.Body.Close()
	if taken.Proto != protocol {
		t.Fatalf("this is %s", taken.Proto)
	}
	first := make([]byte, half)
	_, err = io.ReadFull(taken.Body, first)
	must(t, err)

	body, rest := io.Pipe()
	upload, err := http.NewRequest("POST", p.url+product+"/attachments", body)
	must(t, err)
	upload.Header.Set("Authorization", "Bearer "+p.key)
	upload.Header.Set("Content-Type", "multipart/form-data; boundary=frontier")
	form := slices.Concat([]byte("--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"new.txt\"\r\n\r\n"), content, []byte("new\r\n--frontier--\r\n"))
	answered := make(chan string, 1)
	go func() {
		response, err := connections.Do(upload)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		said, _ := io.ReadAll(response.Body) // for the message of a failed test
		answered <- fmt.Sprint(response.StatusCode, " ", string(said))
	}()
	_, err = rest.Write(form[:half])
	must(t, err)

	must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	time.Sleep(30 * time.Second) // longer than a client may stall
	must(t, p.cmd.Process.Signal(syscall.SIGCONT))

	second, err := io.ReadAll(taken.Body)
	if got := append(first, second...); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the download gave %d of %d bytes: %v", len(got), len(content), err)
	}
	_, err = rest.Write(form[half:])
	must(t, err)
	must(t, rest.Close())
	if got := <-answered; got[:3] != "201" {
		t.Errorf("the upload was answered %s", got)
	}
}
