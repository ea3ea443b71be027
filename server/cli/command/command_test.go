package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{errors.New("no luck"), 1, "attachd: no luck\n"},
		{Usage("say %q", "please"), 2, "attachd: say \"please\"\n"},
		{fmt.Errorf("typed: %w", Usage("say please")), 2, "attachd: typed: say please\n"},
		{errors.Join(nil, Usage("say please")), 2, "attachd: say please\n"},
		{Fault(errors.New("a fault")), 3, "attachd: a fault\n"},
		{fmt.Errorf("calling: %w", context.Canceled), 1, "attachd: interrupted\n"},
	} {
		var stderr bytes.Buffer
		if code := Report(c.err, &stderr); code != c.code || stderr.String() != c.says {
			t.Errorf("%v: exit code %d, %q, want %d, %q", c.err, code, &stderr, c.code, c.says)
		}
	}
}
