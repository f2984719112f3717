package web

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
)

// supportPage has archives of hosts made for those who help from afar.
var supportPage = &page{path: "/support", title: "Support archive", help: "console#support-archive", least: cluster.Admin, still: true,
	part: supportPart}

// Bounds of what one admin asks for.
const (
	maxArchives  = 16              // hosts
	maxDays      = 365             // of logs
	archiveTime  = 5 * time.Minute // for the archive of one host
	defaultLog   = 7               // days
	archiveIndex = "index.txt"
)

// supportPart offers the hosts, members first.
func supportPart(ctx context.Context, v *view) (templ.Component, error) {
	var others []inventory.Summary
	var unread error
	if v.works {
		others, unread = guestHosts(ctx, v)
	}
	return supportArchive(v, others, unread), nil
}

// archiveWanted are the hosts and days that a form asks for.
func archiveWanted(r *http.Request) (hosts []cluster.HostID, days int, err error) {
	for _, h := range r.Form["host"] {
		if !slices.Contains(hosts, cluster.HostID(h)) {
			hosts = append(hosts, cluster.HostID(h))
		}
	}
	for _, h := range strings.Fields(strings.ReplaceAll(r.FormValue("others"), ",", " ")) {
		if !slices.Contains(hosts, cluster.HostID(h)) {
			hosts = append(hosts, cluster.HostID(h))
		}
	}
	days, derr := strconv.Atoi(r.FormValue("days"))
	switch {
	case len(hosts) == 0:
		err = fail.Errorf(fail.Invalid, "No host is chosen.").With("choose at least one")
	case len(hosts) > maxArchives:
		err = fail.Errorf(fail.Invalid, "hosts: %d are chosen: want at most %d", len(hosts), maxArchives)
	case derr != nil || days < 1 || days > maxDays:
		err = fail.Errorf(fail.Invalid, "days: value %.20q: want 1 to %d", r.FormValue("days"), maxDays)
	}
	return hosts, days, err
}

// makeArchives sends a file with the archives of hosts, each as soon as it is made. One that is not made is named in the
// file's index; when none is, the page says why. Who goes away ends all of it.
func (c *Console) makeArchives(w http.ResponseWriter, r *http.Request, v *view) {
	c.live.fill(v)
	v.page, v.Title = supportPage, v.T(supportPage.title)
	err := supportPage.may(v)
	if err == nil {
		err = long(w, r)
	}
	var hosts []cluster.HostID
	var days int
	if err == nil {
		hosts, days, err = archiveWanted(r)
	}
	if err == nil && !c.archiving.TryLock() {
		err = fail.Errorf(fail.Unavailable, "Another archive is made by this console now.").With("ask again in some minutes")
	} else if err == nil {
		defer c.archiving.Unlock()
		name := fmt.Sprintf("holdfast-support-%s-%s", fileWord(v.Status.Cluster), time.Now().UTC().Format("20060102T150405Z"))
		d := &download{w: w, name: name + ".zip"}
		if err = sendArchives(r.Context(), v, d, name, hosts, days); err != nil && d.begun {
			c.Log.Debug("console: an archive was not taken", "err", err)
			panic(http.ErrAbortHandler) // nobody takes a part for the whole
		}
	}
	if err != nil {
		c.trouble(w, r, v, err)
	}
}

// sendArchives writes the archives of hosts, one after the other. What was not made is in the index; the error of all.
func sendArchives(ctx context.Context, v *view, d *download, name string, hosts []cluster.HostID, days int) error {
	out := zip.NewWriter(d)
	index := "Made by " + v.User.Name + " by the console of " + v.Host + ", " + time.Now().UTC().Format(time.RFC3339) + "\n\n"
	var failed []error
	for _, h := range hosts {
		part := &counted{}
		file := "holdfast-report-" + fileWord(string(h)) + ".tar.gz"
		err := oneArchive(ctx, v, part, out, name+"/"+file, h, days)
		if ctx.Err() != nil || d.err != nil {
			return errors.Join(ctx.Err(), d.err)
		}
		switch {
		case err != nil && part.n > 0:
			failed = append(failed, err)
			index += fmt.Sprintf("%s: NOT COMPLETE: %s\n", file, told.Clean(err.Error()))
		case err != nil:
			failed = append(failed, err)
			index += fmt.Sprintf("%s: not made: %s\n", told.Clean(string(h)), told.Clean(err.Error()))
		default:
			index += fmt.Sprintf("%s: %d bytes\n", file, part.n)
		}
	}
	if len(failed) == len(hosts) && !d.begun {
		if len(failed) == 1 {
			return failed[0]
		}
		return fail.Errorf(fail.Failed, "No archive was made: %w", errors.Join(failed...))
	}
	f, err := out.CreateHeader(&zip.FileHeader{Name: name + "/" + archiveIndex, Method: zip.Deflate, Modified: time.Now().UTC()})
	if err == nil {
		_, err = f.Write([]byte(index))
	}
	return errors.Join(err, out.Close())
}

// oneArchive writes that of a host. It has no entry in the file before its first bytes have come.
func oneArchive(ctx context.Context, v *view, to *counted, out *zip.Writer, file string, h cluster.HostID, days int) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer cancel()
	to.write = func(p []byte) (n int, err error) {
		if to.entry == nil {
			to.entry, err = out.CreateHeader(&zip.FileHeader{Name: file, Method: zip.Store, Modified: time.Now().UTC()})
		}
		if err == nil {
			n, err = to.entry.Write(p)
		}
		return n, err
	}
	return v.api.Report(ctx, h, days, to)
}

// counted counts what is written.
type counted struct {
	n     int64
	entry io.Writer // of the file; nil: it has none yet
	write func(p []byte) (int, error)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.write(p)
	c.n += int64(n)
	return n, err
}

// download sends a file, whose header goes with its first bytes.
type download struct {
	w     http.ResponseWriter
	name  string
	begun bool
	err   error // of the browser's end
}

func (d *download) Write(p []byte) (n int, err error) {
	if !d.begun {
		d.begun = true
		file(d.w, d.name, "application/zip")
	}
	if d.err = http.NewResponseController(d.w).SetWriteDeadline(time.Now().Add(archiveTime)); d.err == nil {
		n, d.err = d.w.Write(p)
	}
	return n, d.err
}

// fileWord makes a name safe for a file's.
func fileWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, s)
}
