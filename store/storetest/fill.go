package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"attachd/store"
)

// The distribution of the attachments that Fill creates.
const (
	FilesPerProduct  = 100
	productsPerSpace = 100
	sharedEvery      = 10  // every n-th attachment has the content of the one before
	fillers          = 256 // concurrent uploads, as many as may share a commit
)

// Fill creates n attachments in s and returns the products that it creates for
// them. Each has FilesPerProduct, the last one the remainder; the i-th attachment
// is in the i/FilesPerProduct-th. It has the content FilledContent(i), which a
// caller that wants to download it has to store.
//
// It creates them as uploads do, many concurrently, so that the result is what a
// store makes of a million uploads.
func Fill(t testing.TB, s store.Store, n int) []store.Entity {
	t.Helper()
	uploader := store.User{ID: uuid.New(), FullName: "Grace Hopper"}
	products := fillDirectory(t, s, uploader, (n+FilesPerProduct-1)/FilesPerProduct)
	var (
		next   atomic.Int64
		failed = make([]error, fillers)
		all    sync.WaitGroup
	)
	for f := range fillers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed[f] == nil; i = int(next.Add(1)) - 1 {
				a := filled(i, products[i/FilesPerProduct].Parent, uploader)
				failed[f] = s.CreateAttachment(context.Background(), a, nil, "")
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatalf("filling the store: %v", err)
	}
	return products
}

// fillDirectory creates the products, their spaces, and their uploader.
func fillDirectory(t testing.TB, s store.Store, uploader store.User, n int) (products []store.Entity) {
	t.Helper()
	objects := []store.Object{uploader}
	for i := range n {
		slug := fmt.Sprintf("filled-%d", i/productsPerSpace)
		if i%productsPerSpace == 0 {
			objects = append(objects, store.Space{Slug: slug, Name: "Filled"},
				store.Member{Space: slug, UserID: uploader.ID, Role: store.Editor})
		}
		product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: slug, Name: fmt.Sprint("Product ", i)}
		products = append(products, product)
		objects = append(objects, product)
	}
	if _, err := s.Put(context.Background(), objects...); err != nil {
		t.Fatalf("filling the directory: %v", err)
	}
	return products
}

func filled(i int, parent store.Parent, uploader store.User) store.Attachment {
	content := FilledContent(i)
	return store.Attachment{
		ID: uuid.Must(uuid.NewV7()), Parent: parent, FileName: fmt.Sprintf("quarterly report %d.txt", i),
		Size: int64(len(content)), Type: "text/plain", SHA256: sha256.Sum256(content), UploaderID: uploader.ID,
	}
}

// FilledContent is the content of the i-th attachment that Fill creates.
func FilledContent(i int) []byte {
	if i%sharedEvery == sharedEvery-1 {
		i--
	}
	return fmt.Appendf(nil, "This is the content of attachment %d.\n", i)
}
