//go:build linux

package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service is the user id of the container image.
const service = 65532

// asService makes a command run as the user of the service.
func asService(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: service, Gid: service}}
	chmod(t, cmd.Dir, 0o777)
	return cmd
}

// volume is a data directory as a container platform creates it.
func volume(t *testing.T, uid, gid int, mode fs.FileMode) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give folders to others")
	}
	home := t.TempDir()
	for _, open := range []string{home, filepath.Dir(home)} {
		chmod(t, open, 0o755)
	}
	dir := filepath.Join(home, "data")
	check(t, os.Mkdir(dir, 0o700))
	check(t, os.Chown(dir, uid, gid))
	chmod(t, dir, mode)
	return dir
}

func startAsService(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return startCommand(t, dir, asService(t, command(t, append(env, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")...)))
}

func refusedAsService(t *testing.T, words ...string) string {
	t.Helper()
	cmd := asService(t, command(t, words...))
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop() // in case it serves
	said, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("attachd %q is not refused: %s", words, said)
	}
	return string(said)
}

func TestVolumesOfContainers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		uid, gid int
		mode     fs.FileMode
		warns    string
	}{
		{"its own", service, service, 0o755, ""},
		{"fsGroup", 0, service, fs.ModeSetgid | 0o770, ""},
		{"fsGroup, which others may list", 0, service, fs.ModeSetgid | 0o775, "open to every user of this machine (mode 0775)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := volume(t, c.uid, c.gid, c.mode)
			server := startAsService(t, dir, autoCreate)
			server.upload(product, "a.txt", "a").want(t, 201)
			server.stop()
			if said := server.stderr(); c.warns == "" && strings.Contains(said, "every user") || !strings.Contains(said, c.warns) {
				t.Errorf("it says %s", said)
			}
			// Kubernetes does this at each mount.
			walk(t, dir, func(path string, info fs.FileInfo) {
				check(t, os.Lchown(path, -1, service))
				mode := info.Mode() | 0o660
				if info.IsDir() {
					mode |= fs.ModeSetgid | 0o110
				}
				check(t, os.Chmod(path, mode))
			})
			ok(t, "user", "list", "--data-dir", dir) // as root, which must not lock the service out
			server = startAsService(t, dir, autoCreate)
			server.upload(product, "b.txt", "b").want(t, 201)
			for _, secret := range []string{"secret.key", "admin.key", "attachd.db"} {
				if mode := info(t, filepath.Join(dir, secret)).Mode().Perm(); mode != 0o600 {
					t.Errorf("%s has mode %v", secret, mode)
				}
			}
			server.stop()
		})
	}
}

// An emptyDir is writable by everybody, and a mount: a container has no other
// users.
func TestAnEmptyDirIsTakenWithAWarning(t *testing.T) {
	t.Parallel()
	dir := volume(t, 0, 0, 0o777)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=400m,mode=0777"); err != nil {
		t.Skip("this system lets nobody mount: ", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	server := startAsService(t, dir, autoCreate, "ATTACHD_LIMITS_DISK_RESERVE=1MB")
	server.upload(product, "a.txt", "a").want(t, 201)
	server.logged("is open to every user of this machine (mode 0777)")
	server.stop()
}

func TestPartsOfADataDirectoryOnOtherDisks(t *testing.T) {
	t.Parallel()
	mount := func(t *testing.T, source, target, kind string, flags uintptr) {
		check(t, os.MkdirAll(target, 0o700))
		if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
			t.Skip("this system lets nobody mount: ", err)
		}
		t.Cleanup(func() { check(t, syscall.Unmount(target, syscall.MNT_DETACH)) })
	}
	const disk, folder, link = "another disk", "another folder of the disk", "a link"
	for _, c := range []struct {
		part, kind string
		used       bool
	}{
		{"blobs", disk, false}, {"blobs", folder, false}, {"blobs/sha256", folder, false}, {"blobs/damaged", disk, false},
		{"tmp", disk, true}, {"thumbnails", link, true}, {"blobs/sha256/7f", folder, true}, {"blobs", link, true},
	} {
		t.Run(c.part+" "+c.kind, func(t *testing.T) {
			t.Parallel()
			dir, other := filepath.Join(t.TempDir(), "data"), t.TempDir()
			check(t, os.Mkdir(dir, 0o700))
			if c.used {
				start(t, dir).stop()
			}
			target := filepath.Join(dir, c.part)
			says := target + " is on another disk than " + dir + ", or a mount of its own"
			switch c.kind {
			case disk:
				mount(t, "tmpfs", target, "tmpfs", 0)
			case folder:
				mount(t, other, target, "", syscall.MS_BIND)
			default:
				check(t, os.RemoveAll(target))
				check(t, os.Symlink(other, target))
				says = target + " is a symbolic link"
			}
			before := tree(t, dir)
			for _, words := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"user", "add", "Ada"}} {
				if said := refused(t, 1, append(words, "--data-dir", dir)...); !strings.Contains(said, says) {
					t.Errorf("it says %s", said)
				}
			}
			if doctor := attachd(t, "doctor", "--data-dir", dir); doctor.code != 3 || !strings.Contains(doctor.stdout, says) {
				t.Errorf("the doctor says %s", doctor.stdout)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("there was\n%s\nand is\n%s", before, after)
			}
		})
	}
	t.Run("snapshots", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		mount(t, "tmpfs", filepath.Join(dir, "snapshots"), "tmpfs", 0)
		for range 2 {
			server := start(t, dir, autoCreate)
			server.upload(product, "a.txt", "a").want(t, 201)
			server.stop()
		}
		if len(names(t, filepath.Join(dir, "snapshots"))) == 0 {
			t.Error("there is no snapshot")
		}
	})
}

func TestAFolderOfRootIsRefusedWithWhatToType(t *testing.T) {
	t.Parallel()
	for mode, says := range map[fs.FileMode]string{
		0o755: "DATA belongs to root (0) (mode 0755), and attachd runs as user 65532. Give it to that user: chown 65532:65532 DATA",
		0o700: "chown 65532:65532 DATA",
		0o777: "chown 65532:65532 DATA", // not a mount: the machine may have other users
	} {
		dir := volume(t, 0, 0, mode)
		for _, words := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"user", "add", "Ada"}} {
			said := strings.ReplaceAll(refusedAsService(t, append(words, "--data-dir", dir)...), dir, "DATA")
			if !strings.Contains(said, says) {
				t.Errorf("%v: attachd %v says %s", mode, words, said)
			}
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%v: it made %v", mode, left)
		}
		if mode == 0o777 {
			continue // a folder below it would belong to the process
		}
		said := refusedAsService(t, "serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "below"))
		if !strings.Contains(said, "chown 65532:65532 "+dir) {
			t.Errorf("%v: below it, it says %s", mode, said)
		}
	}
}

// As root's cp or tar leave them in a restored or moved directory.
func TestPartsThatBelongToRootAreNamed(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"tmp", "blobs", "blobs/sha256", "blobs/sha256/00", "blobs/sha256/7f", "attachd.db", "secret.key", "FORMAT"} {
		dir := volume(t, service, service, 0o700)
		startAsService(t, dir).stop()
		check(t, os.Chown(filepath.Join(dir, part), 0, 0))
		says := "chown 65532:65532 " + filepath.Join(dir, part) + "."
		if said := refusedAsService(t, "serve", "--listen", "127.0.0.1:0", "--data-dir", dir); !strings.Contains(said, says) {
			t.Errorf("%s: it does not say %s, but %s", part, says, said)
		}
	}
}

// ASVS 13.3.1, 13.3.4
func TestSecretsThatContainersMount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		owner int
		mode  fs.FileMode
		says  string // why it is refused; empty where it is accepted
	}{
		{"Docker and Podman", 0, 0o444, ""},
		{"Kubernetes with mode: 0440", 0, 0o440, ""},
		{"one for the user alone", service, 0o400, ""},
		{"root's, which root may change, for all to read", 0, 0o644, "can be read by others (mode 0644)"},
		{"for all to read, of somebody", 4711, 0o444, "set mode: 0440"},
		{"for all to write", 0, 0o446, "can be read by others (mode 0446)"},
		{"root's alone", 0, 0o400, "belongs to root (0) (mode 0400), and attachd runs as user 65532. Give it to that user: chown 65532:65532"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := volume(t, service, service, 0o700)
			secret := filepath.Join(filepath.Dir(dir), "webhooks.key")
			write(t, secret, "whsec_"+strings.Repeat("MTIz", 12)+"\n")
			check(t, os.Chown(secret, c.owner, service))
			chmod(t, secret, c.mode)
			env := []string{"ATTACHD_WEBHOOKS_URL=https://127.0.0.1:1/", "ATTACHD_WEBHOOKS_ALLOW_PRIVATE=true", "ATTACHD_WEBHOOKS_SECRET_FILE=" + secret}
			if c.says == "" {
				startAsService(t, dir, env...).stop()
				return
			}
			if said := refusedAsService(t, append(env, "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)...); !strings.Contains(said, c.says) {
				t.Errorf("it says %s", said)
			}
		})
	}
}
