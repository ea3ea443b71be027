//go:build unix

package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// profileHook is a Go file of package main that is added to attachd's own when it
// is built to be profiled, so that attachd itself has no profiling code.
//
//go:embed profile.go.txt
var profileHook []byte

// build builds attachd into dir.
func build(dir string, profiled bool) (binary string, err error) {
	binary = filepath.Join(dir, "attachd")
	args := []string{"build", "-o", binary}
	if profiled {
		overlay, err := overlayHook(dir)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.Command("go", append(args, "attachd")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building attachd: %w\n%s", err, out)
	}
	return binary, nil
}

// overlayHook writes the file for go build -overlay.
func overlayHook(dir string) (overlay string, err error) {
	root, err := exec.Command("go", "list", "-f", "{{.Dir}}", "attachd").Output()
	if err != nil {
		return "", fmt.Errorf("finding attachd: %w", err)
	}
	hook := filepath.Join(dir, "profile.go")
	if err := os.WriteFile(hook, profileHook, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(strings.TrimSpace(string(root)), "profile.go"): hook}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

// process is a running server: attachd, the bare one, or a peer, which the user
// starts and stops.
type process struct {
	cmd     *exec.Cmd
	address string
	ended   chan error
	pids    []int // the processes that are measured
}

var listensAt = regexp.MustCompile(`http://([^\s"]+:\d+)`)

// start starts a server whose log is written to a file, as a service's is, and
// waits until it logs its address.
func start(cmd *exec.Cmd, logFile string) (*process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own descriptor
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan error, 1), pids: []int{cmd.Process.Pid}}
	go func() { p.ended <- cmd.Wait() }()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		said, err := os.ReadFile(logFile)
		if err != nil {
			return nil, errors.Join(err, p.stop())
		}
		if found := listensAt.FindSubmatch(said); found != nil {
			p.address = string(found[1])
			return p, nil
		}
		select {
		case err := <-p.ended:
			return nil, fmt.Errorf("%s ended: %w\n%s", cmd.Path, err, said)
		default:
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not say where it listens", cmd.Path), p.stop())
}

// stop ends the process as a service manager does.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s does not end", p.cmd.Path), p.cmd.Process.Kill())
	}
}

// ticks is the unit in which Linux counts processor time: a hundredth of a second,
// on every machine that Go runs on.
const ticks = time.Second / 100

// processor is the processor time that the process has used; 0 on systems other
// than Linux, and where it is unknown.
func (p *process) processor() (sum time.Duration) {
	for _, pid := range p.pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		_, behind, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(behind)
		if len(fields) < 13 {
			return 0
		}
		for _, field := range fields[11:13] { // user and system
			n, err := strconv.Atoi(field)
			if err != nil {
				return 0
			}
			sum += time.Duration(n) * ticks
		}
	}
	return sum
}

// settleDown waits until the process has finished its work after a start, such as a
// snapshot, which would affect the measurement.
func (p *process) settleDown() error {
	quiet := 0 // seconds with little processor time; in fewer than 3 it may only wait for the disk
	for begun := time.Now(); time.Since(begun) < 10*patience; {
		before := p.processor()
		time.Sleep(time.Second)
		if quiet++; p.processor()-before >= time.Second/50 {
			quiet = 0
		}
		if quiet == 3 {
			return nil
		}
	}
	return errors.New("the server does not come to rest")
}

// forgetPeak resets the peak of the memory use, where the system can.
func (p *process) forgetPeak() {
	for _, pid := range p.pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// memory returns numbers of bytes in memory: the peak of everything, and the
// present anonymous memory, which excludes the map of the database.
func (p *process) memory() (peak, anonymous int64) {
	for _, pid := range p.pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, 0
		}
		for _, line := range strings.Split(string(status), "\n") {
			name, value, _ := strings.Cut(line, ":")
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				continue
			}
			switch name {
			case "VmHWM":
				peak += kilobytes << 10
			case "RssAnon":
				anonymous += kilobytes << 10
			}
		}
	}
	return peak, anonymous
}

// profileFile is the path to which the hook in a server over dir writes.
func profileFile(dir string) string { return dir + ".pprof" }

// profile makes the server begin a CPU profile; done ends it and moves it.
func (p *process) profile(from, to string) (done func() error, err error) {
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	// A signal to end the profile that is sent before this file exists would be
	// lost.
	if err := onceThere(func() error { _, err := os.Stat(from + ".part"); return err }); err != nil {
		return nil, err
	}
	return func() error {
		if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			return err
		}
		return onceThere(func() error { // to may be on another disk
			profile, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(to, profile, 0o600), os.Remove(from))
		})
	}, nil
}

// onceThere retries do until the file that it uses exists, which may take a while.
func onceThere(do func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := do()
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
	}
}
