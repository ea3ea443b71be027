package store

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Deletion says when and by whom something was put into the trash.
type Deletion struct {
	At    time.Time // UTC, whole seconds
	Until time.Time // when it is removed for good, UTC, whole seconds; later than At
	ByID  uuid.UUID // a user; zero for the operator of the machine
	By    string    // full name, filled in when read, as Attachment.Uploader
}

// Trashed is something in the trash: an attachment that was deleted by itself, or a
// product, ticket, meeting or space that was deleted with all that it had.
type Trashed struct {
	Deletion
	Space      string     // slug
	Attachment Attachment // with the zero ID unless it is one
	Entity     Entity     // with the zero Kind unless it is a product, ticket or meeting
	Name       string     // of a space
	Files      Usage      // the attachments that come back with it
	// Place is where it stands in the list that it came from: TrashIn goes on after it.
	Place []byte
}

// Trash stores what was deleted and can still be brought back. What is in the trash is
// hidden from all other methods as if it had been deleted, and does not count towards
// quotas, with these exceptions: AllAttachments lists it, Referenced counts it, its
// contents keep their checksums, and the ids of its attachments stay taken. DeleteEntity and
// DeleteSpace remove for good what is in the trash of what they delete, too.
//
// Where a parent or space in the trash is put anew, also by an upload that creates it, its
// attachments stay in the trash, each as if it had been deleted by itself at that time;
// everything else that belonged to it is deleted, but for what is in the trash of a space.
// Such a call waits until that is done, as the contract of Remove says; one that is refused
// changes nothing. Whoever has a space sees nothing of another one: an attachment whose
// parent was put anew in another space stays hidden until it is removed for good.
//
// Where a parent or space goes to the trash, comes back or is removed for good, an event for
// each of its attachments is enqueued as with each of them: with the change, or by Remove where
// there are many. A later change of the same parent or space waits for them. The entries of
// the audit log are written as for DeleteEntity, with the action "attachment.purge", when they
// are removed for good: on behalf of whoever does that, or else of whoever deleted the parent.
type Trash interface {
	// TrashAttachment is DeleteAttachment into the trash: the same checks, refusals, quota
	// and event.
	TrashAttachment(ctx context.Context, id uuid.UUID, d Deletion) (Attachment, error)
	// TrashEntity is DeleteEntity into the trash: ErrConflict when it has attachments, unless
	// withAttachments; those in the trash do not count. One that has no attachments, in or
	// out of the trash, is deleted for good. It writes no more where there are many.
	TrashEntity(ctx context.Context, p Parent, withAttachments bool, d Deletion) error
	// TrashSpace is DeleteSpace into the trash, likewise.
	TrashSpace(ctx context.Context, slug string, withAttachments bool, d Deletion) error

	// TrashedAttachment returns an attachment that was deleted by itself, and whose parent is
	// there, or ErrNotFound. As in the lists, it has no comment where that was deleted meanwhile.
	TrashedAttachment(ctx context.Context, id uuid.UUID) (Trashed, error)
	// TrashedEntity returns a product, ticket or meeting in the trash, whose space is there,
	// or ErrNotFound.
	TrashedEntity(ctx context.Context, p Parent) (Trashed, error)
	// TrashedSpace returns a space in the trash, or ErrNotFound.
	TrashedSpace(ctx context.Context, slug string) (Trashed, error)
	// TrashOf lists at most limit attachments of a parent that were deleted by themselves,
	// by id, beginning after the given id. The list is empty for a parent that is not there.
	TrashOf(ctx context.Context, p Parent, after uuid.UUID, limit int) ([]Trashed, error)
	// TrashIn lists at most limit attachments and parents in the trash of a space, those
	// deleted last first, beginning after the given Place; nil begins at the start. Without
	// a space it lists the spaces in the trash. Attachments whose parent is in the trash
	// are left out, and so is everything in a space that is not there.
	TrashIn(ctx context.Context, space string, after []byte, limit int) ([]Trashed, error)

	// RestoreAttachment brings an attachment back into its parent, with its id, its time and
	// its comment, unless that was deleted meanwhile. ErrNotFound when it is not in the
	// trash, ErrConflict when its parent is in the trash, gone or in another space, ErrQuota
	// as CreateAttachment. It enqueues an AttachmentRestored.
	RestoreAttachment(ctx context.Context, id uuid.UUID) (Attachment, error)
	// RestoreEntity brings a product, ticket or meeting back with all that it had when it was
	// deleted. ErrNotFound when it is not in the trash, ErrConflict when its space is in the
	// trash, ErrQuota when the quota has no room for all of it (CheckRestore). It takes no
	// longer where there are many attachments.
	RestoreEntity(ctx context.Context, p Parent) (Entity, error)
	// RestoreSpace brings a space back, likewise; its quota is not asked.
	RestoreSpace(ctx context.Context, slug string) (Space, error)

	// PurgeAttachment removes an attachment in the trash for good, and returns it.
	// ErrNotFound when TrashedAttachment does not return it. It enqueues an
	// AttachmentPurged.
	PurgeAttachment(ctx context.Context, id uuid.UUID) (Attachment, error)
	// PurgeEntity has Remove remove a product, ticket or meeting in the trash for good, with
	// what was deleted of it before. ErrNotFound when TrashedEntity does not return it.
	PurgeEntity(ctx context.Context, p Parent) error
	// PurgeSpace does so with a space.
	PurgeSpace(ctx context.Context, slug string) error
	// PurgeUntil removes for good at most limit attachments whose Until is not after the given
	// time, those with the earliest Until first, and has Remove remove such parents and
	// spaces. It returns contents that may be unreferenced now, how much it removed or
	// left to Remove, and whether there is more. It reads nothing of what is not due. What is
	// held is passed over, and stays until the time held instead, which is later than until;
	// where that is zero, its Until stays as it is.
	PurgeUntil(ctx context.Context, until, held time.Time, limit int) (freed [][32]byte, purged Usage, more bool, err error)
	// TrashSize counts the attachments in the trash, those of parents and spaces too, and
	// returns the earliest Until; the zero time when the trash is empty. It does not read
	// attachments.
	TrashSize(ctx context.Context) (size Usage, earliest time.Time, err error)
}
