// Package layout is what all pages have in common: their head, their language, a sheet that stands alone, what was said
// of what was asked for, and how they are sent.
package layout

import (
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/klauspost/compress/gzhttp"

	"holdfast/internal/lib/fail"
	"holdfast/internal/web/static"
)

// View is what every page is made of.
type View struct {
	Lang    string // en or zh
	T       func(string) string
	Title   string
	At      string // path and query of what is shown
	Host    string // that serves it
	Version string
	Message string // what became of what was asked for
	Failed  bool   // and that it has failed
	Remedy  string
}

// New makes one for a request, in the language that it asks for.
func New(r *http.Request, host, version string) View {
	l := languageOf(r)
	return View{Lang: l, T: catalogues[l]().Text, At: strings.TrimPrefix(r.URL.RequestURI(), "/live"), Host: host, Version: version}
}

// Fail shows an error on the page.
func (v *View) Fail(err error) {
	v.Failed, v.Message, v.Remedy = true, v.T(err.Error()), v.T(Remedy(err))
}

// Remedy is what to do about an error, "" where it does not say.
func Remedy(err error) string {
	var e *fail.Error
	if errors.As(err, &e) {
		return e.Remedy
	}
	return ""
}

// role has a screen reader say at once what has failed.
func (v *View) role() string {
	if v.Failed {
		return "alert"
	}
	return "status"
}

// Local is a path of this console; what leads elsewhere becomes the first page.
func Local(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, "\\") ||
		strings.ContainsFunc(path, unicode.IsControl) { // browsers leave tabs out: /TAB/site is another site
		return "/"
	}
	return path
}

// Compressed has pages and what they load be compressed. Answers to forms are not: some have a password for once beside
// what was typed.
func Compressed(next http.Handler) http.Handler {
	pages := gzhttp.GzipHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || strings.HasPrefix(r.URL.Path, "/live/") || strings.HasSuffix(r.URL.Path, "/socket") { // streams
			next.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// Headers are those of every answer: no other site frames, scripts or reads these pages.
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		images := "'self'"
		if strings.HasSuffix(r.URL.Path, "/screen") {
			images += " data:" // noVNC makes pictures of what the guest sends, and a mouse pointer
		}
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src "+images+"; font-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Static serves what pages load, which a browser keeps for a day; the names in pages change with the version.
func Static() http.Handler {
	files := http.StripPrefix("/static/", http.FileServerFS(static.Files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400, immutable")
		files.ServeHTTP(w, r)
	})
}
