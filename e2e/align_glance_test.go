package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Images of internal/transition/db/profile/testdata/rows.sql.
const (
	imageDebian = "91000000-0000-4000-8000-000000000001"
	imageLent   = "91000000-0000-4000-8000-000000000002" // by shop to bank
	imageOwn    = "91000000-0000-4000-8000-000000000003" // of bank
	imageWeb    = "91000000-0000-4000-8000-000000000005" // of imagesOfOldYears
)

// imagesOfOldYears have locations without metadata, in no store of the new platform, and a
// deleted one whose metadata Python wrote: Glance reads those of deleted locations, too.
const imagesOfOldYears = `
USE liberty_glance;
INSERT INTO images (id, name, size, status, is_public, created_at, deleted, disk_format, container_format, owner, min_disk, min_ram, protected) VALUES
  ('` + imageWeb + `', 'web', 7, 'active', 1, '2014-01-01', 0, 'iso', 'bare', NULL, 0, 0, 0);
INSERT INTO image_locations (image_id, value, created_at, deleted, meta_data, status) VALUES
  ('` + imageWeb + `', 'http://old.example/a.iso', '2014-01-01', 0, NULL, 'active'), ('` + imageWeb + `', 'http://old.example/b.iso', '2014-01-01', 0, 'null', 'active'),
  ('` + imageWeb + `', 'http://old.example/c.iso', '2014-01-01', 1, '(dp1\n.', 'deleted');
`

// image is what Glance tells of one.
type image struct {
	ID, Name, Status  string
	Visibility, Owner string
	Size              int64
	OwnerID           string `json:"owner_id"`
	UserID            string `json:"user_id"`
	BaseImage         any    `json:"base_image_ref"`
	Protected         bool
	Tags              []string
	Stores            string
	Locations         []struct {
		URL      string
		Metadata map[string]any
	}
}

func (i image) String() string {
	return fmt.Sprintf("%q %s %s of %s, %d bytes, protected %v, owner_id %q, user_id %q, base %v, tags %v, at %v of %s",
		i.Name, i.Status, i.Visibility, i.Owner, i.Size, i.Protected, i.OwnerID, i.UserID, i.BaseImage, i.Tags, i.Locations, i.Stores)
}

// images are as Glance is to tell of them after the alignment.
var images = map[string]string{
	imageDebian: `"debian" active public of shop, 1073741824 bytes, protected false, owner_id "shop", user_id "ada", base <nil>, tags [base], at [{rbd://0a0b0c/images/` + imageDebian + `/snap map[a:1 store:ceph]}] of ceph`,
	imageLent:   `"lent" active shared of shop, 1 bytes, protected true, owner_id "", user_id "", base <nil>, tags [], at [{file:///var/lib/glance/images/` + imageLent + ` map[store:files]}] of files`,
	imageOwn:    `"own" active private of bank, 1 bytes, protected false, owner_id "", user_id "", base , tags [], at [{rbd://0a0b0c/images/3/snap map[store:ceph]}] of ceph`,
	imageWeb:    `"web" active public of , 7 bytes, protected false, owner_id "", user_id "", base <nil>, tags [], at [{http://old.example/a.iso map[]} {http://old.example/b.iso map[]}] of `,
}

// imagesTold asks a real glance-api.
func (c *newCloud) imagesTold(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	c.conf(t, "glance.conf", addr, "")
	as := c.start(t, "glance-api", python("glance.cmd.api", "glance-api", "--config-file",
		filepath.Join(c.dir, "glance.conf"))...).answers(t, addr)
	look := func() []string {
		user := func(project, role string) asker {
			return as("X-Identity-Status", "Confirmed", "X-User-Id", "ada", "X-Project-Id", project, "X-Roles", role)
		}
		return imageFaults(user)
	}
	if faults := look(); len(faults) > 0 {
		t.Fatalf("%s", strings.Join(faults, "\n"))
	}
	location := func(id, value string) string {
		return "UPDATE glance.image_locations SET meta_data = " + value + " WHERE image_id = '" + id + "'"
	}
	c.spoiled(t, []string{"glance.image_locations", "glance.image_properties", "glance.image_members",
		"glance.image_tags", "glance.images"}, look,
		[]spoil{
			{location(imageLent, `'{"backend": "files"}'`), imageLent + ": \"lent\""}, // Stein's word
			{"UPDATE glance.image_properties SET value = 'c0000000000040008000000000000001' WHERE name = 'owner_id'", imageDebian + ": \"debian\""},
			{"UPDATE glance.images SET owner = 'c0000000000040008000000000000002' WHERE id = '" + imageOwn + "'", imageOwn + ": \"own\""},
			{"UPDATE glance.image_members SET member = 'c0000000000040008000000000000002' WHERE image_id = '" +
				imageLent + "'", "bank sees [" + imageDebian + " " + imageWeb},
		},
		[]spoil{
			{location(imageOwn, "NULL"), imageOwn + ": http"},
			{location(imageDebian, `'{"a": 1,'`), imageDebian + ": http"},
			{"UPDATE glance.images SET visibility = 'private' WHERE id = '" + imageLent + "'", imageLent + ": \"lent\" active private"},
		},
		[]spoil{
			{location(imageDebian, `'{"a": 1, "store": "fast"}'`), imageDebian + ": \"debian\""}, // there is none
			{"UPDATE glance.images SET deleted = 1 WHERE id = '" + imageOwn + "'", imageOwn + ": http"},
			{"DELETE FROM glance.image_tags", imageDebian + ": \"debian\""},
			{"UPDATE glance.image_locations SET meta_data = '(dp1' WHERE deleted = 1 AND image_id = '" + imageWeb + "'", imageWeb + ": http"},
			{"UPDATE glance.images SET status = 'queued' WHERE id = '" + imageLent + "'", imageLent + ": \"lent\" queued"},
		},
	)
}

// imageFaults is what Glance tells and ought not to: each image as the administrator sees
// it, and which ones people of projects see.
func imageFaults(as func(project, role string) asker) []string {
	var out []string
	admin := as("admin", "admin")
	for id, want := range images {
		var i image
		if err := admin("v2/images/"+id, &i); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", id, err))
		} else if i.String() != want {
			out = append(out, fmt.Sprintf("%s: %s\nwant %s", id, i, want))
		}
	}
	for project, want := range map[string][]string{"shop": {imageDebian, imageLent, imageWeb},
		"bank": {imageDebian, imageLent, imageOwn, imageWeb}, "others": {imageDebian, imageWeb}} {
		var list struct{ Images []image }
		if err := as(project, "member")("v2/images", &list); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", project, err))
			continue
		}
		var got []string
		for _, i := range list.Images {
			got = append(got, i.ID)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			out = append(out, fmt.Sprintf("%s sees %v, want %v", project, got, want))
		}
	}
	return out
}
