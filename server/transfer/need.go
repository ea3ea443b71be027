package transfer

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/upkeep"
	"attachd/store"
)

// Records are the records of attachments.
type Records interface {
	AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error)
}

// Need is a content that records refer to.
type Need struct {
	Ref  blobs.Ref
	Size int64 // bytes
}

// Needs lists every content that records refer to, once, and counts the records. The
// whole list is in memory.
func Needs(ctx context.Context, records Records) (list []Need, attachments int64, err error) {
	seen := map[blobs.Ref]struct{}{}
	err = EachRecord(ctx, records, func(r store.Attachment) {
		attachments++
		if _, is := seen[r.SHA256]; !is {
			seen[r.SHA256] = struct{}{}
			list = append(list, Need{r.SHA256, r.Size})
		}
	})
	return list, attachments, err
}

// Whose lists the attachments whose contents are lost, each with the reason.
func Whose(ctx context.Context, records Records, lost map[blobs.Ref]string) (faults []upkeep.Fault, err error) {
	if len(lost) == 0 {
		return nil, nil
	}
	err = EachRecord(ctx, records, func(r store.Attachment) {
		if why, is := lost[r.SHA256]; is {
			fault := upkeep.Fault{FileName: r.FileName, Blob: blobs.Ref(r.SHA256).String(), What: why}
			fault.Attachment.UUID, fault.Attachment.Valid = r.ID, true
			faults = append(faults, fault)
		}
	})
	return faults, err
}

// recordsAtOnce is how many records are read with one call.
const recordsAtOnce = 1000

// EachRecord calls visit with each record.
func EachRecord(ctx context.Context, records Records, visit func(store.Attachment)) error {
	var last store.Attachment
	for {
		page, err := records.AllAttachments(ctx, last.ID, recordsAtOnce)
		if err != nil {
			return fmt.Errorf("listing attachments: %w", err)
		}
		for _, last = range page {
			visit(last)
		}
		if len(page) < recordsAtOnce {
			return nil
		}
	}
}
