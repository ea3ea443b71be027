package blobstest

import (
	"flag"
	"strings"
	"testing"
)

// Short leaves of a large package the tests with these names, where -short is given
// without -run: what tells within seconds that the package works at all. It is for
// TestMain, after flag.Parse.
func Short(tests ...string) {
	if !testing.Short() || flag.Lookup("test.run").Value.String() != "" {
		return
	}
	if err := flag.Set("test.run", "^("+strings.Join(tests, "|")+")$"); err != nil {
		panic(err) // the flag exists
	}
}
