package postgrestest

import "syscall"

// endWithUs has a process end when the tests do, however they do: one that panics, or takes
// too long, ends nothing that it has started.
func endWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscallQuit }
