package server_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server"
	"attachd/store"
)

var withVersitygw = flag.Bool("s3", false, "keep contents in a bucket of versitygw, which must be installed, rather than on the disk")

// keeper is a store of contents as all worlds have one.
type keeper interface {
	blobs.Store
	blobs.Batcher
	blobs.Marker
}

var withPostgres = flag.Bool("postgres", false, "keep records in PostgreSQL, which must be installed, and contents in a bucket in memory, or of versitygw")

var withReplicas = flag.Bool("replicas", false, "as -postgres, with two servers behind nginx, which must be installed: each gets every other request")

// records is a store of metadata as all worlds have one.
type records interface {
	store.Store
	store.AuditChain
}

var (
	gateway *s3test.Gateway // that all worlds share
	buckets atomic.Int64    // worlds that have had a part of its bucket
)

// startGateway starts the object store that -s3 needs.
func startGateway() (stop func()) {
	if !*withVersitygw {
		return func() {}
	}
	dir, err := os.MkdirTemp("", "bucket")
	if err == nil {
		gateway, err = s3test.StartVersitygw(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return func() {
		gateway.Kill()
		os.RemoveAll(dir)
	}
}

// openBucket opens the world's part of the bucket.
func (w *world) openBucket() keeper {
	var bucket s3.Bucket = w.objects
	var err error
	if *withVersitygw {
		bucket, err = s3.Connect(s3.Account{
			Endpoint: "http://" + gateway.Host("127.0.0.1"), Bucket: "bucket", AccessKey: s3test.GatewayKey, SecretKey: s3test.GatewaySecret, PathStyle: "true", Timeout: patience,
		})
		w.must(err)
	}
	catalog, shared := w.store.(blobs.Catalog)
	if !shared {
		catalog, err = w.bolt().Catalog(context.Background())
		w.must(err)
	}
	if w.prefix == "" {
		w.prefix = fmt.Sprintf("world%d/", buckets.Add(1))
	}
	kept, err := s3.Open(context.Background(), s3.Options{
		Bucket: bucket, Catalog: catalog, Shared: shared, Local: w.blobs, Prefix: w.prefix, KeepDeleted: time.Hour, Patience: patience,
		Installation: func(context.Context) (string, error) { return w.prefix, nil },
	})
	w.must(err)
	return kept
}

// abilities are those of the world's stores. Tests expect of downloads what attachd itself
// sends, as without URLs of the object store, which have tests of their own.
func (w *world) abilities() server.Abilities {
	able := server.AbilitiesOf(w.store, w.kept)
	able.Linker = nil
	return able
}
