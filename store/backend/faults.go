package backend

import "fmt"

// MaxFaults is how many faults of a database are listed; more are only counted. One that is
// damaged throughout has one in every record.
const MaxFaults = 1000

// Faults are the faults that a check of a database has found.
type Faults struct {
	list []string
	more int
}

// Add adds a fault, as a sentence.
func (f *Faults) Add(format string, args ...any) {
	if len(f.list) == MaxFaults {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

// AddMore counts faults that were not listed.
func (f *Faults) AddMore(n int) { f.more += n }

// Any reports whether there are any.
func (f *Faults) Any() bool { return len(f.list) > 0 }

// Sentences returns the faults, and in the last one how many more there are.
func (f *Faults) Sentences() []string {
	if f.more > 0 {
		return append(f.list, fmt.Sprintf("There are %d more such faults in the database.", f.more))
	}
	return f.list
}
