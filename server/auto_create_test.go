package server_test

import (
	"context"
	"testing"

	"attachd/server"
	"attachd/store"
)

func autoCreate(c *server.Config) { c.AutoCreate = true }

func TestWithoutAutoCreateAnUnknownParentIsNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, parent := range []string{"/catalog/spaces/a/products/" + newID, "/catalog/spaces/fresh/products/" + newID, "/issues/tickets/" + newID, "/meetings/" + newID} {
		w.do(t, step{as: "root", do: "POST " + parent + "/attachments", form: parts{file("a.txt", "a")}, want: 404})
	}
}

func TestAutoCreateMakesAnUnknownParentOnFirstUpload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, parent, entity, like, space string }{
		{"product", "/catalog/spaces/fresh/products/" + newID, "/directory/spaces/fresh/products/" + newID, `{"id": "` + newID + `", "space": "fresh", "name": ""}`, "fresh"},
		{"ticket", "/issues/tickets/" + newID, "/directory/tickets/" + newID, `{"id": "` + newID + `", "space": "default", "owner_id": "{owner}", "title": ""}`, "default"},
		{"meeting", "/meetings/" + newID, "/directory/meetings/" + newID, `{"id": "` + newID + `", "space": "default", "title": ""}`, "default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, autoCreate)
			upload := func(as string, want int) step {
				return step{as: as, do: "POST " + c.parent + "/attachments", form: parts{file("a.txt", "a")}, want: want}
			}
			first := upload("owner", 201)
			first.save = "A"
			w.play(t, []step{
				{as: "owner", do: "GET " + c.parent + "/attachments", want: 404}, // reading makes nothing
				upload("", 401),
				first,
				{as: "owner", do: "GET " + c.parent + "/attachments", want: 200},
				{as: "owner", do: "GET {A.at}", want: 200, is: "a"},
				{as: "root", do: "GET " + c.entity, want: 200, like: c.like},
				{as: "owner", do: "GET /users/me", want: 200, like: `{"id": "{owner}", "full_name": "Owner Person", "is_superadmin": false, "spaces": [{"slug": "` + c.space + `", "name": "` + c.space + `", "role": "admin"}]}`},
				// From now on the space is like any other.
				{as: "stranger", do: "GET " + c.parent + "/attachments", want: 403},
				upload("stranger", 403),
				upload("owner", 201),
			})
		})
	}
}

// crowded is a store in which another client creates whatever was just looked up
// without success.
type crowded struct{ store.Store }

func (c crowded) Entity(ctx context.Context, p store.Parent) (store.Entity, error) {
	e, err := c.Store.Entity(ctx, p)
	if err != nil {
		_, _ = c.Put(ctx, store.Entity{Parent: p, Space: "a", OwnerID: personID("owner")})
	}
	return e, err
}

func TestAutoCreateTakesWhatAnotherUploadMadeMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate, func(c *server.Config) { c.Store, c.Inquirer = crowded{c.Store}, nil })
	for _, parent := range []string{"/catalog/spaces/a/products/" + newID, "/issues/tickets/" + newID, "/meetings/" + newID} {
		w.do(t, step{as: "editor", do: "POST " + parent + "/attachments", form: parts{file("a.txt", "a")}, want: 201})
	}
	w.do(t, step{as: "root", do: "POST /catalog/spaces/ab/products/" + otherID + "/attachments", form: parts{file("a.txt", "a")}, want: 404})
}

func TestAutoCreateMakesNothingForARefusedUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate)
	w.play(t, []step{
		{as: "viewer", do: "POST /catalog/spaces/fresh/products/" + newID + "/attachments", form: parts{file("a.txt", "")}, want: 400},
		{as: "viewer", do: "POST /catalog/spaces/fresh/products/" + newID + "/attachments", form: parts{file("a.exe", "MZ\x90\x00\x03\x00\x00\x00")}, want: 400},
		{as: "viewer", do: "POST /issues/tickets/" + newID + "/attachments", form: parts{file("a.txt", "a"), field("comment_id", "{comment}")}, want: 404},
		{as: "root", do: "GET /directory/spaces/fresh", want: 404},
		{as: "root", do: "GET /directory/spaces/default", want: 404},
		{as: "root", do: "GET /directory/tickets/" + newID, want: 404},
	})
}

func TestAutoCreateLetsNobodyIntoASpaceThatIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate)
	upload := func(as, parent string, want int) step {
		return step{as: as, do: "POST " + parent + "/attachments", form: parts{file("a.txt", "a")}, want: want}
	}
	w.play(t, []step{
		upload("stranger", "/catalog/spaces/a/products/"+newID, 403),
		upload("viewer", "/catalog/spaces/a/products/"+newID, 403),
		upload("editor", "/catalog/spaces/a/products/"+newID, 201),
		upload("viewer", "{product}", 403),
		upload("stranger", "{ticket}", 403),
		// One that is in another space is not made again in this one.
		upload("root", "/catalog/spaces/ab/products/{product.id}", 404),
		upload("root", "/catalog/spaces/fresh/products/{product.id}", 404),
		upload("root", "/catalog/spaces/a/products/nonsense", 404),
		upload("root", "/catalog/spaces/NOT-A-SLUG/products/"+otherID, 404),
		{as: "editor", do: "GET /users/me", want: 200, like: `{"id": "{editor}", "full_name": "Editor Person", "is_superadmin": false, "spaces": [{"slug": "a", "name": "The space a", "role": "editor"}]}`},
	})
}

func TestAutoCreateMakesEveryoneWhoUploadsFirstAnAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate)
	w.play(t, []step{
		{as: "viewer", do: "POST /issues/tickets/" + newID + "/attachments", form: parts{file("a.txt", "a")}, want: 201},
		{as: "editor", do: "POST /meetings/" + otherID + "/attachments", form: parts{file("b.txt", "b")}, want: 201},
		{as: "root", do: "GET /directory/spaces/default/members", want: 200, like: `[{"user_id": "{editor}", "role": "admin"}, {"user_id": "{viewer}", "role": "admin"}]`},
	})
}

func TestAutoCreateGivesNobodyMoreThanTheirRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate)
	w.play(t, []step{
		{as: "editor", do: "POST /meetings/" + otherID + "/attachments", form: parts{file("b.txt", "b")}, want: 201},
		{as: "root", do: "PUT /directory/spaces/default/members/{viewer}", json: `{"role": "viewer"}`, want: 201},
		{as: "viewer", do: "POST /meetings/" + newID + "/attachments", form: parts{file("b.txt", "b")}, want: 403},
	})
}
