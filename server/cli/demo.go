package cli

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime/multipart"
	"os"
	"path"
	"strings"

	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
)

const demoKeysFile = "demo-keys.json"

// The objects of the demo. The product's id is the one in the API's own examples.
const (
	demoSpace   = "analytics"
	demoProduct = "550e8400-e29b-41d4-a716-446655440000"
	demoTicket  = "550e8400-e29b-41d4-a716-446655440001"
	demoComment = "550e8400-e29b-41d4-a716-446655440002"
	demoMeeting = "550e8400-e29b-41d4-a716-446655440003"
	demoAdmin   = "550e8400-e29b-41d4-a716-446655440011"
	demoEditor  = "550e8400-e29b-41d4-a716-446655440012"
	demoViewer  = "550e8400-e29b-41d4-a716-446655440013"
)

var demoDirectory = []map[string]string{
	{"kind": "user", "id": demoAdmin, "full_name": "Alice Johnson"},
	{"kind": "user", "id": demoEditor, "full_name": "Jonas Weber"},
	{"kind": "user", "id": demoViewer, "full_name": "Mei Tanaka"},
	{"kind": "space", "slug": demoSpace, "name": "Analytics"},
	{"kind": "member", "space": demoSpace, "user_id": demoAdmin, "role": "admin"},
	{"kind": "member", "space": demoSpace, "user_id": demoEditor, "role": "editor"},
	{"kind": "member", "space": demoSpace, "user_id": demoViewer, "role": "viewer"},
	{"kind": "product", "space": demoSpace, "id": demoProduct, "name": "Customer 360"},
	{"kind": "ticket", "space": demoSpace, "id": demoTicket, "owner_id": demoViewer, "title": "Countries are missing"},
	{"kind": "comment", "ticket_id": demoTicket, "id": demoComment},
	{"kind": "meeting", "space": demoSpace, "id": demoMeeting, "title": "Weekly data meeting"},
}

//go:embed demo
var demoFiles embed.FS

var demoUploads = []struct{ file, to, by, comment string }{
	{"data_dictionary.pdf", "/catalog/spaces/" + demoSpace + "/products/" + demoProduct, demoAdmin, ""},
	{"customers.csv", "/catalog/spaces/" + demoSpace + "/products/" + demoProduct, demoEditor, ""},
	{"regions.geojson", "/catalog/spaces/" + demoSpace + "/products/" + demoProduct, demoEditor, ""},
	{"lineage.svg", "/catalog/spaces/" + demoSpace + "/products/" + demoProduct, demoEditor, ""},
	{"error.log", "/issues/tickets/" + demoTicket, demoViewer, demoComment},
	{"orders_per_month.png", "/issues/tickets/" + demoTicket, demoEditor, ""},
	{"minutes.md", "/meetings/" + demoMeeting, demoEditor, ""},
}

// makeDemo fills an empty data directory, and returns what was left out because a
// server with this configuration refuses it. A directory that a demo has filled before
// stays unchanged; any other is refused.
func (a *App) makeDemo(ctx context.Context, cfg config.Config, storage daemon.Storage, wasEmpty bool) (leftOut []string, err error) {
	if _, err := os.Stat(storage.Dir.Join(demoKeysFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !wasEmpty {
		return nil, errors.New("the data directory is in use already; --demo fills an empty one, named by --data-dir")
	}
	local, err := a.serveQuietly(cfg, storage)
	if err != nil {
		return nil, err
	}
	leftOut, err = fillDemo(ctx, local.client(), storage.Dir)
	return leftOut, errors.Join(err, local.Close())
}

func fillDemo(ctx context.Context, c *client, dir *datadir.Dir) (leftOut []string, err error) {
	var lines bytes.Buffer
	for _, object := range demoDirectory {
		if err := json.NewEncoder(&lines).Encode(object); err != nil {
			return nil, err
		}
	}
	if err := c.call(ctx, "POST", "/directory/import", &lines, nil); err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for role, id := range map[string]string{"admin": demoAdmin, "editor": demoEditor, "viewer": demoViewer} {
		var made key
		if err := c.call(ctx, "POST", "/directory/users/"+id+"/api-keys", map[string]string{"name": "demo"}, &made); err != nil {
			return nil, err
		}
		keys[role] = made.FullKey
	}
	for _, u := range demoUploads {
		err := uploadDemo(ctx, c, u.file, u.to, u.by, u.comment)
		var why *refusal
		switch {
		case errors.As(err, &why):
			leftOut = append(leftOut, fmt.Sprintf("the demo goes without %s: %s", u.file, why))
		case err != nil:
			return nil, err
		}
	}
	raw, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return nil, err
	}
	return leftOut, dir.WriteFile(demoKeysFile, append(raw, '\n'))
}

// readDemoKeys returns the keys of the demo's users by role: none after their file was
// deleted. The operator is the first superadmin.
func readDemoKeys(dir *datadir.Dir) (map[string]string, error) {
	raw, err := os.ReadFile(dir.Join(demoKeysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys map[string]string
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", demoKeysFile, err)
	}
	switch key, err := os.ReadFile(dir.Join(daemon.AdminKeyFile)); {
	case err == nil:
		keys["operator"] = strings.TrimSpace(string(key))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return keys, nil
}

func uploadDemo(ctx context.Context, c *client, file, to, by, comment string) error {
	raw, err := demoFiles.ReadFile(path.Join("demo", file))
	if err != nil {
		return err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", file)
	if err != nil {
		return err
	}
	if _, err := part.Write(raw); err != nil {
		return err
	}
	if comment != "" {
		if err := form.WriteField("comment_id", comment); err != nil {
			return err
		}
	}
	if err := form.Close(); err != nil {
		return err
	}
	return c.call(ctx, "POST", to+"/attachments", &body, nil, "Content-Type", form.FormDataContentType(), "X-On-Behalf-Of", by)
}
