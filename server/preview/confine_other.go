//go:build unix && !linux

package preview

func (b bounds) confineLinux() {}
