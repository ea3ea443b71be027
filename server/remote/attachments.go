package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Attachment is an attachment as the server describes it; Raw is the server's JSON.
type Attachment struct {
	ID         string          `json:"id"`
	FileName   string          `json:"file_name"`
	FileSize   int64           `json:"file_size"` // bytes
	UploadedBy User            `json:"uploaded_by"`
	CreatedAt  string          `json:"created_at"` // RFC 3339
	CommentID  string          `json:"comment_id"` // of a ticket; empty: of none
	Raw        json.RawMessage `json:"-"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Attachment) UnmarshalJSON(raw []byte) error {
	type plain Attachment // without this method
	if err := json.Unmarshal(raw, (*plain)(a)); err != nil {
		return err
	}
	if !onlyID().MatchString(a.ID) {
		return errors.New("an attachment without an id")
	}
	a.Raw = append(json.RawMessage(nil), raw...)
	return nil
}

// User is a user of the server.
type User struct {
	ID       string `json:"id"`
	FullName string `json:"full_name"`
}

// caller is the user that the key belongs to, and the server's time when that was
// requested.
type caller struct {
	User
	at time.Time
}

// hasSeen reports whether something was made after the caller was requested. All times
// are the server's, in whole seconds.
func (c caller) hasSeen(createdAt string) bool {
	at, err := time.Parse(time.RFC3339, createdAt)
	return err == nil && !at.Before(c.at)
}

func (c *Client) me(ctx context.Context) (caller, error) {
	var me caller
	header, err := c.json(ctx, "GET", "/users/me", "", &me.User)
	if err != nil {
		return caller{}, err
	}
	if me.at, err = http.ParseTime(header.Get("Date")); err != nil {
		me.at = time.Now().Truncate(time.Second) // as accurate as the two clocks agree
	}
	return me, nil
}

// List calls each with the attachments of a place, oldest first, and requests one page
// after the other. A comment's id restricts the list to the attachments of that comment
// of a ticket.
func (c *Client) List(ctx context.Context, in Place, comment string, each func(Attachment) error) error {
	query := url.Values{}
	if comment != "" {
		query.Set("comment_id", comment)
	}
	return pages(ctx, c, in.path(), query, each)
}

// pages calls each with the items of a list, and requests one page after the other.
func pages[thing any](ctx context.Context, c *Client, path string, query url.Values, each func(thing) error) error {
	query.Set("limit", "1000")
	for {
		var page []thing
		header, err := c.json(ctx, "GET", path+"?"+query.Encode(), "", &page)
		if err != nil {
			return err
		}
		for _, one := range page {
			if err := each(one); err != nil {
				return err
			}
		}
		cursor := nextCursor(header.Get("Link"))
		if cursor == "" {
			return nil
		}
		query.Set("cursor", cursor)
	}
}

var nextLink = pattern(`<([^>]*)>; *rel="next"`)

// nextCursor returns the cursor of the next page from a Link header (RFC 8288), but not
// its host: the key is sent to the same server only.
func nextCursor(link string) string {
	m := nextLink().FindStringSubmatch(link)
	if m == nil {
		return ""
	}
	u, err := url.Parse(m[1])
	if err != nil {
		return ""
	}
	return u.Query().Get("cursor")
}

// Find returns the address with the attachment's id. It looks up a name, which must be
// unique.
func (c *Client) Find(ctx context.Context, a Address) (Address, error) {
	if a.path != "" {
		return a, nil
	}
	if a.in.id == "" {
		var err error
		if a.in, a.name, err = c.findIn(ctx, a.in); err != nil {
			return Address{}, err
		}
		if onlyID().MatchString(a.name) {
			return a.in.attachment(a.name), nil
		}
	}
	var ids []string
	err := c.List(ctx, a.in, "", func(found Attachment) error {
		if found.FileName == a.name {
			ids = append(ids, found.ID)
		}
		return nil
	})
	switch {
	case err != nil:
		return Address{}, err
	case len(ids) == 0:
		return Address{}, fmt.Errorf("%s has no attachment called %q", a.in, a.name)
	case len(ids) > 1:
		return Address{}, fmt.Errorf("%d attachments of %s are called %q; say which: %s/%s",
			len(ids), a.in, a.name, a.in, strings.Join(ids, " or "+a.in.String()+"/"))
	}
	return a.in.attachment(ids[0]), nil
}

// Delete deletes an attachment. If an answer was lost, an attachment that is then not
// found counts as deleted.
func (c *Client) Delete(ctx context.Context, a Address, permanent bool) error {
	if permanent {
		return c.delete(ctx, a.path+"?permanent=true")
	}
	return c.delete(ctx, a.path)
}

func (c *Client) delete(ctx context.Context, path string) error {
	lost := false
	err := c.retry(ctx, func() error {
		var answer struct{ Message string }
		response, err := c.send(ctx, call{method: "DELETE", path: path})
		if err == nil {
			err = readJSON(response, &answer)
		}
		var r *Refusal
		if errors.As(err, &r) && r.Code == "not_found" && lost {
			return nil
		}
		lost = lost || unsure(err)
		return err
	})
	if lost && ctx.Err() == nil && err != nil {
		err = fmt.Errorf("%w; it may have been deleted all the same: delete it again to be sure", err)
	}
	return err
}

// Link makes a URL that needs no key, and returns the server's document about it
// unchanged. With 0 seconds, the server decides how long it is valid.
func (c *Client) Link(ctx context.Context, a Address, seconds int64, inline bool) (downloadURL string, document json.RawMessage, err error) {
	order := map[string]any{}
	if seconds > 0 {
		order["expires_in"] = seconds
	}
	if inline {
		order["disposition"] = "inline"
	}
	body, err := json.Marshal(order)
	if err != nil {
		return "", nil, err
	}
	// A link is not stored on the server, so a retry does no harm.
	if _, err := c.json(ctx, "POST", a.path+"/links", string(body), &document); err != nil {
		return "", nil, err
	}
	var made struct {
		DownloadURL string `json:"download_url"`
	}
	if err := json.Unmarshal(document, &made); err != nil {
		return "", nil, fmt.Errorf("the answer is not attachd's: %w", err)
	}
	return made.DownloadURL, document, nil
}

// unsure reports whether a change may have been made although it failed.
func unsure(err error) bool {
	var (
		r    *Refusal
		lost *lostError
	)
	if !errors.As(err, &r) {
		return errors.As(err, &lost) && !lost.unsent
	}
	return r.Status >= 500 && r.Code != "busy" && r.Code != "shutting_down"
}
