//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/storetest"
)

// grow measures, with more and more attachments, what must not depend on their
// number.
func grow(o options, dir string, stdout, stderr io.Writer) error {
	if _, err := fmt.Fprint(stdout, "| attachments | database | ready after | memory at start | upload 10 KB, 16 clients | list 100, p50 | download, p50 | memory at the end |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n"); err != nil {
		return err
	}
	for _, n := range o.sizes {
		fmt.Fprintf(stderr, "filling a store with %d attachments\n", n)
		row, err := grown(o, filepath.Join(dir, fmt.Sprint("grown", n)), n)
		if err != nil {
			return fmt.Errorf("%d attachments: %w", n, err)
		}
		if _, err := fmt.Fprintf(stdout, "| %d | %s |\n", n, row); err != nil {
			return err
		}
	}
	return nil
}

// grown measures with n attachments and returns a row of the table.
func grown(o options, dir string, n int) (row string, err error) {
	products, err := fill(o.binaries[0], dir, n)
	if err != nil {
		return "", err
	}
	database, err := os.Stat(filepath.Join(dir, "attachd.db"))
	if err != nil {
		return "", err
	}
	begun := time.Now()
	in, err := serve(o.binaries[0], dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	if _, err := call(in.address, 200, request("GET", "/health/ready", in.key)); err != nil {
		return "", err
	}
	ready := time.Since(begun)
	_, atStart := in.memory()
	if err := in.settleDown(); err != nil {
		return "", err
	}
	uploads, err := drive(16, o.slice, 0, func(i int) (worker, error) { return uploading(small, true)(in, i) })
	if err != nil {
		return "", err
	}
	product := products[len(products)/2]
	in.listing = &listing{request("GET", fmt.Sprintf("/catalog/spaces/%s/products/%s/attachments", product.Space, product.ID), in.key), listRows * 200, checkList}
	lists, err := drive(1, o.slice, 0, func(i int) (worker, error) { return lists(in, i) })
	if err != nil {
		return "", err
	}
	downloads, err := drive(1, o.slice, 0, func(i int) (worker, error) { return downloading(small)(in, i) })
	if err != nil {
		return "", err
	}
	_, atEnd := in.memory()
	return fmt.Sprintf("%s | %s | %s | %s /s | %s | %s | %s", megabytes(float64(database.Size())), duration(float64(ready)), megabytes(float64(atStart)),
		number(uploads.rate()), duration(float64(lists.quantile(.5))), duration(float64(downloads.quantile(.5))), megabytes(float64(atEnd))), nil
}

// fill creates a data directory with n attachments, as storetest.Fill fills a
// store, and without their contents.
func fill(binary, dir string, n int) (products []store.Entity, err error) {
	in, err := serve(binary, dir) // creates everything except the attachments
	if err != nil {
		return nil, err
	}
	if err := in.stop(); err != nil {
		return nil, err
	}
	records, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	defer func() {
		if failure, ok := recover().(fillError); ok {
			err = failure
		}
	}()
	return storetest.Fill(filler{}, records, n), nil
}

// filler is the testing.TB that storetest.Fill reports to.
type filler struct{ testing.TB }

type fillError struct{ error }

func (filler) Helper() {}

func (filler) Fatalf(format string, args ...any) { panic(fillError{fmt.Errorf(format, args...)}) }
