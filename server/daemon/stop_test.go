package daemon

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What ends a server that does not stop must wait for longer than a stop takes, and for
// a stalled reader of the log.
func TestPackagesAndManualKnowHowLongAStopTakes(t *testing.T) {
	t.Parallel()
	for path, pattern := range map[string]string{
		"../../packaging/attachd.service": `(?m)^TimeoutStopSec=(\d+)$`,
		"../../packaging/compose.yml":     `(?m)^x-attachd: (?:.*\n)+?  stop_grace_period: (\d+)s`,
		"../../packaging/kubernetes.yml":  `terminationGracePeriodSeconds: (\d+)`,
	} {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(file)
		if found == nil {
			t.Errorf("%s does not say how long a stop may take", path)
			continue
		}
		seconds, _ := strconv.Atoi(string(found[1])) // digits
		need := stopTime + 2*logPatience
		if before := regexp.MustCompile(`sleep: \{seconds: (\d+)\}`).FindSubmatch(file); before != nil {
			first, _ := strconv.Atoi(string(before[1])) // digits
			need += time.Duration(first) * time.Second
		}
		if time.Duration(seconds)*time.Second < need {
			t.Errorf("%s gives a stop %d seconds, and it may take %s", path, seconds, need)
		}
	}
	manual, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []time.Duration{shutdownTime, jobsTime, stopTime} {
		if row := fmt.Sprintf("\n| %.0f | ", limit.Seconds()); !strings.Contains(string(manual), row) {
			t.Errorf("the manual does not say what has %s", limit)
		}
	}
}
