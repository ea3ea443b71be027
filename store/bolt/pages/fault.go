package pages

import "fmt"

// Fault is something that is wrong with the file.
type Fault struct {
	Bucket   string // empty: of the file as a whole
	Entry    bool   // of one entry; otherwise of how the pages of the bucket hang together
	KeyHolds bool   // of an entry: its key is what it was
	What     string // a sentence
}

// EntryFault is the fault of an entry that is not what was written.
func EntryFault(bucket, key []byte, keyHolds bool) Fault {
	// Strings, so that the names that callers verify need not be on the heap.
	return Fault{Bucket: string(bucket), Entry: true, KeyHolds: keyHolds,
		What: fmt.Sprintf("In the bucket %q, the entry %x is not what was written.", string(bucket), string(key))}
}

// Names in faults of what is no bucket.
var (
	Free = []byte("\x00free") // pages that are free and in use: a change could destroy what is sound
	Lost = []byte("\x00lost") // pages that are neither: another fault says what lacks them, if anything does
)
