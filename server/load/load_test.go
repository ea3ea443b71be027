//go:build unix

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/blobs/blobstest"
	e2e "attachd/server/e2e/build"
	"attachd/store/postgres/postgrestest"
)

// The program runs itself as the bare server to compare with; in the test, that is
// the test's binary.
func TestMain(m *testing.M) {
	if os.Getenv("LOAD_BARE") != "" {
		if bare(os.Stderr) != nil {
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	blobstest.Short("TestAnS3RequestIsSignedAsTheProtocolSays", "TestAPeerIsNamedWithItsProtocol")
	os.Exit(buildAndRun(m))
}

// built returns the path of attachd for these tests.
var built func() string

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "attachd-load")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = e2e.Attachd(dir)
	status := m.Run()
	if err := postgrestest.End(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(status, 1)
	}
	return status
}

// brief returns options with which each operation runs about once.
func brief(t *testing.T) options {
	t.Helper()
	o, _, err := parse([]string{"-rounds", "1", "-time", "1ms", "-dir", t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	o.binaries = []string{built()}
	o.sustained, o.deletions = 32, 32
	return o
}

func TestEveryWorkloadRunsAndIsAnsweredRightly(t *testing.T) {
	t.Parallel()
	o := brief(t)
	o.jsonFile = filepath.Join(o.dir, "results.json")
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	for _, w := range workloads(o) {
		if !strings.Contains(table.String(), "| "+w.name+" |") {
			t.Errorf("the table has no row for %q:\n%s", w.name, &table)
		}
	}
	if strings.Contains(table.String(), "NaN") || strings.Contains(table.String(), "Inf") {
		t.Errorf("the table has ratios to nothing:\n%s", &table)
	}
	saved, err := loadResults(o.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var compared bytes.Buffer
	if err := saved.print(&compared, saved); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(compared.String(), " | 1.00 | "), len(workloads(o)); got != want {
		t.Errorf("%d rows of %d are as fast as they are:\n%s", got, want, &compared)
	}
}

func TestAWrongAnswerFailsTheRun(t *testing.T) {
	t.Parallel()
	s, err := newSubject(built(), filepath.Join(t.TempDir(), "subject"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	in := s.verified
	files, err := in.stored(small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i].sum[0] ^= 1
	}
	o := options{slice: time.Millisecond, only: regexp.MustCompile("^download 10 KB, 16")}
	if _, err := workloads(o)[0].run(s, o); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("downloads of other bytes than expected: %v", err)
	}
}

func TestGrowthIsMeasured(t *testing.T) {
	t.Parallel()
	o := brief(t)
	o.grow, o.sizes = true, []int{200, 400}
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	if rows := strings.Count(table.String(), " MB |\n"); rows != 2 {
		t.Errorf("the table has %d rows, not 2:\n%s", rows, &table)
	}
}

func TestAttachdIsComparedWithTheBucketInWhichItKeepsItsContents(t *testing.T) {
	t.Parallel()
	var bucket standIn
	_, address, _ := strings.Cut(bucket.serve(t, "s3", "/bucket", bucket.s3), "=")
	o, _, err := parse([]string{"-rounds", "1", "-time", "1ms", "-dir", t.TempDir(), "-attachd", built(), "-only", "1 MB|by URL|hashed", "-bucket", address, "-delay", "1ms"})
	if err != nil {
		t.Fatal(err)
	}
	o.rest = 0
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	if !strings.Contains(table.String(), "bucket, 1ms later") || strings.Contains(table.String(), "hashed") {
		t.Errorf("the table is of something else:\n%s", &table)
	}
	for _, row := range []string{"upload 1 MB, 4 clients", "download 1 MB, 8 clients", "download 10 KB by URL, 8 clients", "download 1 MB by URL, 8 clients"} {
		if !regexp.MustCompile(`(?m)^\| ` + row + ` \| [\d.]+ \| [01]\.\d\d \| (missed)? \|$`).MatchString(table.String()) {
			t.Errorf("there is no goal of %s:\n%s", row, &table)
		}
	}
	kept := 0
	for name := range bucket.files {
		if strings.Contains(name, "/blobs/sha256/") {
			kept++
		}
	}
	if bucket.byURL == 0 {
		t.Error("nothing was downloaded by a URL that attachd has signed")
	}
	if kept == 0 {
		t.Error("attachd has kept nothing in the bucket")
	}
}

func TestAttachdOverPostgresIsComparedWithTheRowOfAQuota(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	var bucket standIn
	_, address, _ := strings.Cut(bucket.serve(t, "s3", "/bucket", bucket.s3), "=")
	o, _, err := parse([]string{"-rounds", "1", "-time", "1ms", "-dir", t.TempDir(), "-attachd", built(), "-only", "spaces|quota|by URL|under pressure", "-bucket", address, "-postgres", dsn})
	if err != nil {
		t.Fatal(err)
	}
	o.rest = 0
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	for _, row := range []string{"upload 10 KB, 32 clients, 64 spaces", "upload 10 KB, 32 clients, quota, against PostgreSQL, the same row, 32", "download 10 KB by URL, 8 clients"} {
		if !regexp.MustCompile(`(?m)^\| ` + row + ` \| \d+\.\d\d \| [01]\.\d\d \| (missed)? \|$`).MatchString(table.String()) {
			t.Errorf("there is no goal of %s:\n%s", row, &table)
		}
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var left int
	if err := conn.QueryRow(t.Context(), `select count(*) from pg_database where datname like 'attachd-load-%'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d databases are left: %v", left, err)
	}
}

func TestAProfileIsWritten(t *testing.T) {
	t.Parallel()
	o := brief(t)
	o.binaries, o.profiles, o.only = nil, t.TempDir(), regexp.MustCompile("^list")
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	info, err := os.Stat(filepath.Join(o.profiles, "list-100-8-clients.pprof"))
	if err != nil || info.Size() == 0 {
		t.Errorf("there is no profile: %v", err)
	}
}
