package ops

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/contents"
	"attachd/server/upkeep"
	"attachd/store"
)

// One of these headers says how the answer with a snapshot is encoded: as one body
// of a given number of bytes, or as frames. A frame is its length in 4 bytes,
// big-endian, followed by that many bytes; a frame of length 0 is the end.
const (
	snapshotLength = "Snapshot-Length"
	snapshotFramed = "Snapshot-Framed"
)

// Snapshot answers with a consistent copy of the metadata, and then keeps the
// answer open: until the client closes it, no content that the copy needs is
// removed. A server that drains ends it, and so does one that may not keep the contents any
// longer.
//
// The copy is written to a file first: while the transaction that reads it is open,
// the database grows by every change, so that must not last as long as the client
// takes to read the answer. Where the disk has no room for the file, the copy is sent
// as it is read: a backup is wanted most when the disk is nearly full, and since
// uploads are refused then, little changes meanwhile.
func (s *Service) Snapshot(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.Snapshotter == nil {
		return notWithThisStorage("A snapshot of the metadata")
	}
	ctx, cancel := context.WithCancel(s.upkeep.running)
	defer cancel()
	held, end, err := s.Contents.Lease(rq.Context())
	if err != nil {
		return err
	}
	defer context.AfterFunc(held, cancel)()
	// A server that drains leaves the postponed removals to a collection.
	defer func() { end(s.upkeep.running, rq.Log) }()
	err = s.sendSnapshot(ctx, w, rq)
	if errors.Is(err, context.Canceled) && s.Corridor.Draining() {
		err = api.ShuttingDown()
	} else if err != nil && held.Err() != nil && rq.Context().Err() == nil {
		err = fmt.Errorf("%w: the lease of the backup was lost: %v", store.ErrAway, err)
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (s *Service) sendSnapshot(ctx context.Context, w *api.Response, rq *api.Request) error {
	if s.Shared != nil {
		return s.sendFrames(ctx, w, rq) // of a file: no transaction lasts as long as the client reads
	}
	err := s.sendCopy(ctx, w, rq)
	if !errors.Is(err, errNoCopy) || ctx.Err() != nil {
		return err
	}
	rq.Log().Warn("a snapshot is sent while it is read, since it cannot be copied first", "error", err)
	return s.sendFrames(ctx, w, rq)
}

// errNoCopy means that the copy cannot be written to a file. Nothing was sent then.
var errNoCopy = errors.New("no copy can be made beside the database")

// sendCopy sends a snapshot that was copied to a file.
func (s *Service) sendCopy(ctx context.Context, w *api.Response, rq *api.Request) (err error) {
	file, done, err := s.Scratch()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCopy, err)
	}
	defer func() { err = errors.Join(err, done()) }()
	guarded := bufio.NewWriterSize(writerFunc(func(p []byte) (int, error) {
		if err := s.Contents.RoomFor(rq.Context(), int64(len(p))); err != nil {
			return 0, fmt.Errorf("%w: %w", errNoCopy, err)
		}
		n, err := file.Write(p)
		if err == nil {
			// On many file systems, a sync of any file waits for all unwritten data:
			// keep that small for the other syncs.
			err = file.Sync()
		}
		if err != nil {
			return n, fmt.Errorf("%w: %w", errNoCopy, err)
		}
		return n, nil
	}), 4<<20)
	if err := s.copyMetadata(ctx, rq, guarded); err != nil {
		return fmt.Errorf("copying the metadata: %w", err)
	}
	if err := guarded.Flush(); err != nil {
		return fmt.Errorf("copying the metadata: %w", err)
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(snapshotLength, strconv.FormatInt(size, 10))
	if err := contents.Copy(w, io.NewSectionReader(file, 0, size)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// sendFrames sends a snapshot as frames while it is read, when its length is not
// known yet.
func (s *Service) sendFrames(ctx context.Context, w *api.Response, rq *api.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(snapshotFramed, "true")
	frame := func(p []byte) (int, error) {
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p)))); err != nil {
			return 0, err
		}
		return w.Write(p)
	}
	frames := bufio.NewWriterSize(writerFunc(frame), 128<<10)
	if err := s.copyMetadata(ctx, rq, frames); err != nil {
		return fmt.Errorf("sending the metadata: %w", err)
	}
	if err := frames.Flush(); err != nil {
		return err
	}
	if _, err := frame(nil); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// copyMetadata writes a copy in which no content is staged: one whose record is deleted
// after the copy is postponed by the lease only if it has a file. On a full disk, where
// files cannot be written, what is staged is read as long as it is there.
func (s *Service) copyMetadata(ctx context.Context, rq *api.Request, to io.Writer) error {
	return s.Contents.WhileFlushed(ctx, func(flushed error) error {
		if flushed != nil {
			rq.Log().Warn("a snapshot is made although some small contents have no files yet; those that are deleted meanwhile may be missing in a backup", "error", flushed)
		}
		return s.Snapshotter.Snapshot(ctx, to)
	})
}

// StoredContent answers with the stored bytes of a content, even damaged ones.
func (s *Service) StoredContent(w *api.Response, rq *api.Request, sc api.Scope) error {
	ref, err := blobs.ParseRef(rq.Params.ByName("content"))
	if err != nil {
		return api.NotFound("The address does not end in the name of a content: 64 hexadecimal digits in lower case.")
	}
	info, err := s.Contents.Stat(rq.Context(), ref)
	if errors.Is(err, blobs.ErrNotFound) {
		return api.NotFound("There is no content %s.", ref)
	}
	if err == nil {
		err = s.sendStored(w, rq, info)
	}
	known := errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged)
	if err == nil || known || w.Status != 0 || rq.Context().Err() != nil {
		return err
	}
	s.metrics.unreadable.Inc()
	rq.Log().Error("a stored content cannot be read at the moment", "blob", ref.String(), "error", err)
	return api.NotReadable()
}

func (s *Service) sendStored(w *api.Response, rq *api.Request, info blobs.Info) error {
	content, err := s.Contents.Open(rq.Context(), info.Ref, info.Size)
	if err != nil {
		return err
	}
	defer content.Close() // only read
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
	return contents.Copy(w, io.LimitReader(content, info.Size))
}

// Status answers with the state of the database. A database of an earlier version
// gets its installation id first, unless it cannot be changed.
func (s *Service) Status(w *api.Response, rq *api.Request, sc api.Scope) error {
	if _, err := upkeep.Installation(rq.Context(), s.Store); err != nil {
		rq.Log().Warn("the installation has no id yet", "error", err)
	}
	status, err := upkeep.ReadStatus(rq.Context(), s.Store, s.Now())
	if err != nil {
		return err
	}
	if status.Faulty, err = s.faulty(rq.Context()); err != nil {
		return err
	}
	status.Addresses = s.Addresses()
	status.Damage = s.Damage()
	status.Storage = s.storage()
	status.Home.Unknown = errors.Is(s.Contents.MayChange(), contents.ErrPerhapsMoved)
	if staged := s.Contents.Staged(); staged.MaxRoom > 0 {
		status.Log = upkeep.LogStatus{Contents: staged.Contents, Bytes: staged.Room, MaxBytes: staged.MaxRoom}
		status.Log.FailingSince, _ = s.Contents.Failing()
	}
	if s.Compacter != nil {
		// A database that cannot be changed cannot be measured either, and that it cannot
		// be changed matters more.
		if status.Database, err = s.Compacter.Size(rq.Context()); err != nil && !errors.Is(err, store.ErrUnavailable) {
			return err
		}
	}
	return rq.Answer(w, http.StatusOK, status)
}

// storage returns where contents are kept.
func (s *Service) storage() upkeep.StorageStatus {
	storage := s.Storage
	if s.Sweeper != nil {
		storage.Unswept = s.Sweeper.Unswept()
	}
	return storage
}

// NoteBackup notes when the last restore point was made.
func (s *Service) NoteBackup(w *api.Response, rq *api.Request, sc api.Scope) error {
	var backup struct {
		Made time.Time `json:"made"`
	}
	if err := rq.ReadJSON(&backup); err != nil {
		return err
	}
	if backup.Made.IsZero() {
		return api.InvalidRequest("made must be a time.")
	}
	if err := upkeep.NoteDone(rq.Context(), s.Store, upkeep.Backup, backup.Made); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("Backup noted"))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
