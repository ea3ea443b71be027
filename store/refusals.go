package store

import (
	"fmt"

	"github.com/google/uuid"
)

// The refusals of every backend, so that callers read the same sentence whichever they use.

// Refuse returns an Error of a kind, with a sentence for a person.
func Refuse(kind error, format string, args ...any) error {
	return &Error{kind, fmt.Sprintf(format, args...)}
}

// NoAttachment refuses an attachment that does not exist.
func NoAttachment(id uuid.UUID) error { return Refuse(ErrNotFound, "There is no attachment %s.", id) }

// AttachmentTaken refuses a new attachment whose id another has.
func AttachmentTaken(id uuid.UUID) error {
	return Refuse(ErrConflict, "An attachment with the id %s is there already.", id)
}

// NoParent refuses a product, ticket or meeting that does not exist.
func NoParent(p Parent) error { return Refuse(ErrNotFound, "There is no %s %s.", p.Kind, p.ID) }

// NoComment refuses a comment that a product, ticket or meeting does not have.
func NoComment(of Kind, id uuid.UUID) error {
	return Refuse(ErrNotFound, "The %s has no comment %s.", of, id)
}

// NoUser refuses a user who does not exist.
func NoUser(id uuid.UUID) error { return Refuse(ErrNotFound, "There is no user %s.", id) }

// NoOwner refuses a ticket whose owner has never existed.
func NoOwner(id uuid.UUID) error {
	return Refuse(ErrNotFound, "There is no user %s to own the ticket.", id)
}

// NoSpace refuses a space that does not exist.
func NoSpace(slug string) error { return Refuse(ErrNotFound, "There is no space %q.", slug) }

// NoMember refuses a user who is not a member of a space.
func NoMember(slug string, user uuid.UUID) error {
	return Refuse(ErrNotFound, "The user %s is not a member of the space %q.", user, slug)
}

// BadID refuses an id that no object can have: lists could not begin after it.
func BadID(id uuid.UUID) error { return Refuse(ErrConflict, "The id %s cannot be used.", id) }

// CannotMove refuses a product, ticket or meeting that is known in another space.
func CannotMove(p Parent, from string) error {
	return Refuse(ErrConflict, "The %s %s is in space %q and cannot move to another.", p.Kind, p.ID, from)
}

// HasAttachments refuses to delete a product, ticket or meeting that has attachments.
func HasAttachments(p Parent) error {
	return Refuse(ErrConflict, "The %s %s has attachments.", p.Kind, p.ID)
}

// SpaceHasAttachments refuses to delete a space that has attachments.
func SpaceHasAttachments(slug string) error {
	return Refuse(ErrConflict, "There are attachments in space %q.", slug)
}

// NotInTrash refuses an attachment that is not in the trash.
func NotInTrash(id uuid.UUID) error {
	return Refuse(ErrNotFound, "There is no attachment %s in the trash.", id)
}

// ParentNotInTrash refuses a product, ticket or meeting that is not in the trash.
func ParentNotInTrash(p Parent) error {
	return Refuse(ErrNotFound, "There is no %s %s in the trash.", p.Kind, p.ID)
}

// SpaceNotInTrash refuses a space that is not in the trash.
func SpaceNotInTrash(slug string) error {
	return Refuse(ErrNotFound, "There is no space %q in the trash.", slug)
}

// WithoutParent refuses to restore an attachment into a product, ticket or meeting that was
// deleted.
func WithoutParent(p Parent) error {
	return Refuse(ErrConflict, "The %s %s that the attachment belongs to was deleted: restore that first.", p.Kind, p.ID)
}

// WithoutSpace refuses to restore a product, ticket or meeting into a space that was deleted.
func WithoutSpace(p Parent, slug string) error {
	return Refuse(ErrConflict, "The space %q that the %s belongs to was deleted: restore that first.", slug, p.Kind)
}

// UnderHold refuses to delete what a hold is on or in, or what has it below.
func UnderHold(on Held) error {
	switch {
	case on.Attachment != uuid.Nil:
		return Refuse(ErrHeld, "The attachment %s is under a legal hold: until that is lifted, it cannot be deleted, nor what it belongs to.", on.Attachment)
	case on.Parent != Parent{}:
		return Refuse(ErrHeld, "The %s %s is under a legal hold: until that is lifted, nothing of it can be deleted, nor its space.", on.Parent.Kind, on.Parent.ID)
	}
	return Refuse(ErrHeld, "The space %q is under a legal hold: until that is lifted, nothing in it can be deleted.", on.Space)
}

// OlderProgram refuses a hold that another server, of an older program, would ignore.
func OlderProgram() error {
	return Refuse(ErrConflict, "An older attachd, which knows no legal holds, serves the same database. Restart it with the new program, and try again.")
}

// NoHold refuses a hold that does not exist.
func NoHold(id uuid.UUID) error { return Refuse(ErrNotFound, "There is no hold %s.", id) }

// HoldTaken refuses a new hold whose id another has.
func HoldTaken(id uuid.UUID) error {
	return Refuse(ErrConflict, "A hold with the id %s is there already.", id)
}

// TooManyHolds refuses a hold on what has MaxHolds already.
func TooManyHolds() error {
	return Refuse(ErrConflict, "There are %d holds on it already, and there may not be more. Lift one that has ended.", MaxHolds)
}

// NoKey refuses an API key that does not exist.
func NoKey(id uuid.UUID) error { return Refuse(ErrNotFound, "There is no key %s.", id) }

// KeyTaken refuses a new API key whose id or secret another has.
func KeyTaken() error { return Refuse(ErrConflict, "This key is there already.") }

// TooManyKeys refuses an API key to a user who has n already.
func TooManyKeys(n int) error {
	return Refuse(ErrConflict, "This user has %d API keys, and may not have more. Revoke one that is not needed, or use one that is there.", n)
}

// SessionTaken refuses a new session whose cookie another has.
func SessionTaken() error { return Refuse(ErrConflict, "This session is there already.") }

// Malformed is the error of an object that the caller has not validated.
func Malformed(o Object) error { return fmt.Errorf("store: malformed %T: %+v", o, o) }
