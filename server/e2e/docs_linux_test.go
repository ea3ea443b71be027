package e2e

import (
	"strings"
	"testing"
)

func TestATerminalShowsAPageByThePager(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pager string
		code  int
		shows string
	}{
		{"", 0, "# Glossary\r\n"},
		{"sed s/^/paged:/", 0, "paged:# Glossary\r\n"},
		{"/no/such-pager -R", 1, `attachd: the pager "/no/such-pager" (PAGER):`},
		{"false", 1, `attachd: the pager "false" (PAGER): exit status 1`},
		{"true", 0, ""}, // somebody who has seen enough at once
	} {
		s := newScreen(t, 200)
		cmd := command(t, "docs", "glossary")
		cmd.Env = append(cmd.Env, "PAGER="+c.pager)
		cmd.Stdout, cmd.Stderr = s.terminal, s.terminal
		_ = cmd.Run() // looked at below
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("PAGER=%q: exit code %d", c.pager, code)
		}
		eventually(t, "it shows "+c.shows, func() bool { return strings.Contains(strings.Join(s.lines(), ""), c.shows) })
	}
	cmd := command(t, "docs", "glossary")
	cmd.Env = append(cmd.Env, "PAGER=false")
	if r := finish(t, cmd); r.code != 0 || !strings.HasPrefix(r.stdout, "# Glossary\n\nFor ") {
		t.Errorf("without a terminal: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
