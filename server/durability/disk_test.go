//go:build linux

package durability

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// tracedDisk is a model of what a power cut may leave of a directory. It is fed the
// system calls of a process and keeps, for every file and folder, the state that is
// durable and the changes that may or may not be.
//
// Where file systems differ, the model does the worst that POSIX allows and that
// one of them may do:
//
//   - A sync of a file makes its bytes durable and not its name. Names are made
//     durable by syncing the folder they are in.
//   - Changes to a file that were not synced may arrive in any selection and
//     any order, and of a write any selection of its sectors. A name may be
//     there before the bytes.
//   - Changes to a folder that were not synced may arrive in any selection: a
//     file moved between two folders may be in both or in neither. But a name
//     leads to the old file or to the new one, never to nothing, when one
//     replaces the other; all of Linux's file systems do that.
//   - fdatasync makes the bytes durable and a length that is needed to read them,
//     and not one that ftruncate gave the file afterwards.
//   - syncfs makes everything durable.
//   - A sync covers what was done when it began, not what other threads do meanwhile.
//   - A sync that succeeded holds. No program can protect data on disks that lie.
type tracedDisk struct {
	root    string
	top     *inode
	offsets map[int64]int64 // of open files, by descriptor
}

type inode struct {
	bytes  []byte            // of a file: durable
	names  map[string]*inode // of a folder: durable; nil for a file
	now    map[string]*inode // of a folder: as the process sees it
	unsure []change          // changes not durable yet, in order
}

// change is a change that was not synced: a write, a length, or a name in a folder
// and its target.
type change struct {
	at     int // the line of the trace at which it ended
	kind   changeKind
	offset int64
	data   []byte
	name   string
	target *inode // nil when the name was removed
}

type changeKind int

const (
	write changeKind = iota
	length
	naming
)

// newDisk returns a disk with an empty, durable folder root.
func newDisk(root string) *tracedDisk {
	return &tracedDisk{root: root, top: newFolder(), offsets: map[int64]int64{}}
}

func newFolder() *inode { return &inode{names: map[string]*inode{}, now: map[string]*inode{}} }

// find follows a path as the process sees it; nil when it does not exist, or is
// outside the disk.
func (d *tracedDisk) find(path string) *inode {
	if path == d.root {
		return d.top
	}
	rest, inside := strings.CutPrefix(path, d.root+"/")
	if !inside {
		return nil
	}
	node := d.top
	for name := range strings.SplitSeq(rest, "/") {
		if node = node.now[name]; node == nil {
			return nil
		}
	}
	return node
}

func (d *tracedDisk) holds(path string) bool {
	return path == d.root || strings.HasPrefix(path, d.root+"/")
}

// apply applies a call to the model, if it was to this disk. It says whether the
// call may have changed what a power cut leaves.
func (d *tracedDisk) apply(c tracedCall) (changed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("line %d: %s: %w", c.ended, c, err)
		}
	}()
	if c.failed {
		return false, nil
	}
	switch c.name {
	case "openat":
		return d.open(c)
	case "sync_file_range": // guarantees nothing
		return false, nil
	case "fallocate":
		if c.args[1] == "FALLOC_FL_KEEP_SIZE" { // changes neither bytes nor length
			return false, nil
		}
	case "sendfile":
		if path, _ := pathOf(c.args[0]); !d.holds(path) { // only reads
			return false, nil
		}
	case "syncfs":
		if path, _ := pathOf(c.args[0]); !d.holds(path) && path != d.root {
			return false, nil
		}
		d.syncAll(c.began)
		return true, nil
	case "close", "lseek", "mmap", "write", "pwrite64", "ftruncate", "fsync", "fdatasync":
		return d.useOpen(c)
	case "mkdirat":
		path, err := at(c.args[0], c.args[1])
		if err != nil || !d.holds(path) {
			return false, err
		}
		return true, d.name(path, newFolder(), c.ended)
	case "unlinkat":
		path, err := at(c.args[0], c.args[1])
		if err != nil || d.find(path) == nil { // sockets are not in the model
			return false, err
		}
		return true, d.name(path, nil, c.ended)
	case "renameat", "linkat":
		return d.move(c)
	}
	for _, arg := range c.args {
		path, _ := pathOf(arg)
		if name, err := stringOf(arg); path == "" && err == nil {
			path = name
		}
		if d.holds(path) {
			return false, fmt.Errorf("a call that the model does not know")
		}
	}
	return false, nil
}

func (d *tracedDisk) open(c tracedCall) (bool, error) {
	path, err := at(c.args[0], c.args[1])
	if err != nil || !d.holds(path) {
		return false, err
	}
	d.offsets[c.result] = 0
	node := d.find(path)
	switch {
	case node == nil && strings.Contains(c.args[2], "O_CREAT"):
		return true, d.name(path, &inode{}, c.ended)
	case node == nil:
		return false, fmt.Errorf("the file is not known")
	case strings.Contains(c.args[2], "O_TRUNC"), strings.Contains(c.args[2], "O_APPEND"):
		return false, fmt.Errorf("a way to open a file that the model does not know")
	}
	return false, nil
}

// useOpen applies the calls whose first argument is an open file.
func (d *tracedDisk) useOpen(c tracedCall) (changed bool, err error) {
	file := c.args[0]
	if c.name == "mmap" {
		file = c.args[4]
	}
	path, gone := pathOf(file)
	if gone || !d.holds(path) { // a file without a name is lost anyway
		return false, nil
	}
	node := d.find(path)
	if node == nil {
		return false, fmt.Errorf("the file is not known")
	}
	fd := descriptor(file)
	switch c.name {
	case "close":
		delete(d.offsets, fd)
	case "lseek":
		d.offsets[fd] = c.result
	case "mmap":
		if strings.Contains(c.args[2], "PROT_WRITE") && strings.Contains(c.args[3], "MAP_SHARED") {
			return false, fmt.Errorf("a file is mapped for writing: what is written to it cannot be seen")
		}
	case "write":
		err = node.write(c, d.offsets[fd])
		d.offsets[fd] += c.result
		return true, err
	case "pwrite64":
		var offset int64
		if _, err := fmt.Sscan(c.args[3], &offset); err != nil {
			return false, err
		}
		return true, node.write(c, offset)
	case "ftruncate":
		var to int64
		_, err := fmt.Sscan(c.args[1], &to)
		node.unsure = append(node.unsure, change{at: c.ended, kind: length, offset: to})
		return true, err
	case "fsync":
		node.sync(c.began, true)
		return true, nil
	case "fdatasync":
		node.sync(c.began, false)
		return true, nil
	}
	return false, nil
}

func (d *tracedDisk) move(c tracedCall) (bool, error) {
	from, err1 := at(c.args[0], c.args[1])
	to, err2 := at(c.args[2], c.args[3])
	if err := cmp.Or(err1, err2); err != nil || !d.holds(from) && !d.holds(to) {
		return false, err
	}
	node := d.find(from)
	if node == nil {
		return false, fmt.Errorf("the file is not known")
	}
	if err := d.name(to, node, c.ended); err != nil || c.name == "linkat" {
		return true, err
	}
	return true, d.name(from, nil, c.ended)
}

// name makes path lead to target, or removes it when target is nil.
func (d *tracedDisk) name(path string, target *inode, at int) error {
	folder, name := d.find(filepath.Dir(path)), filepath.Base(path)
	if folder == nil || folder.now == nil {
		return fmt.Errorf("the folder of %s is not known", path)
	}
	if target == nil {
		delete(folder.now, name)
	} else {
		folder.now[name] = target
	}
	folder.unsure = append(folder.unsure, change{at: at, kind: naming, name: name, target: target})
	return nil
}

func (n *inode) write(c tracedCall, offset int64) error {
	data, err := stringOf(c.args[1])
	if err != nil {
		return err
	}
	n.unsure = append(n.unsure, change{at: c.ended, kind: write, offset: offset, data: []byte(data)[:c.result]})
	return nil
}

// sync makes the changes before a line of the trace durable: all of them, or, as
// fdatasync does, without lengths that no write needs.
func (n *inode) sync(before int, lengths bool) {
	last := len(n.unsure)
	for last > 0 && (n.unsure[last-1].at >= before || !lengths && n.unsure[last-1].kind == length) {
		last--
	}
	if last == 0 {
		return
	}
	n.bytes = content(n.bytes, n.unsure[:last])
	n.names = names(n.names, n.unsure[:last])
	n.unsure = slices.Clone(n.unsure[last:])
}

// syncAll syncs everything that is reachable, or was reachable before a change that
// was not synced.
func (d *tracedDisk) syncAll(before int) {
	seen := map[*inode]bool{}
	var sync func(n *inode)
	sync = func(n *inode) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		for _, c := range n.unsure {
			sync(c.target)
		}
		for _, named := range []map[string]*inode{n.now, n.names} {
			for _, below := range named {
				sync(below)
			}
		}
		n.sync(before, true)
	}
	sync(d.top)
}

// content returns the content of a file after these changes.
func content(bytes []byte, changes []change) []byte {
	bytes = slices.Clone(bytes)
	for _, c := range changes {
		if c.kind == naming {
			continue
		}
		end := int(c.offset) + len(c.data)
		if end > len(bytes) {
			bytes = append(bytes, make([]byte, end-len(bytes))...)
		}
		if c.kind == length {
			bytes = bytes[:end]
		}
		copy(bytes[c.offset:], c.data)
	}
	return bytes
}

// names returns the names in a folder after these changes.
func names(before map[string]*inode, changes []change) map[string]*inode {
	after := maps.Clone(before)
	for _, c := range changes {
		switch {
		case c.kind != naming:
		case c.target == nil:
			delete(after, c.name)
		default:
			after[c.name] = c.target
		}
	}
	return after
}

// unsynced lists the changes to the files that the process sees, and to their
// names, that a power cut may undo.
func (d *tracedDisk) unsynced() []string { return unsyncedIn("", d.top) }

func unsyncedIn(path string, n *inode) (all []string) {
	for _, c := range n.unsure {
		switch {
		case c.kind == write:
			all = append(all, fmt.Sprintf("%s: %d bytes at %d", path, len(c.data), c.offset))
		case c.kind == length:
			all = append(all, fmt.Sprintf("%s: the length %d", path, c.offset))
		case c.target == nil:
			all = append(all, fmt.Sprintf("%s: that it is gone", filepath.Join(path, c.name)))
		default:
			all = append(all, fmt.Sprintf("%s: its name", filepath.Join(path, c.name)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.now)) {
		all = append(all, unsyncedIn(filepath.Join(path, name), n.now[name])...)
	}
	return all
}

// image is a directory as a power cut may leave it: the content of every file
// by its path, and of every folder nil.
type image map[string][]byte

// after returns what is left when arrive selects the changes that reached the disk.
func (d *tracedDisk) after(arrive func([]change) []change) image {
	left := image{}
	files := map[*inode][]byte{} // two names of a file lead to the same bytes
	var walk func(string, *inode)
	walk = func(path string, n *inode) {
		if n.names == nil {
			if _, ok := files[n]; !ok {
				files[n] = content(n.bytes, arrive(n.unsure))
				if files[n] == nil { // which stands for a folder
					files[n] = []byte{}
				}
			}
			left[path] = files[n]
			return
		}
		left[path] = nil
		there := names(n.names, arrive(n.unsure))
		for _, name := range slices.Sorted(maps.Keys(there)) {
			walk(filepath.Join(path, name), there[name])
		}
	}
	walk(".", d.top)
	return left
}
