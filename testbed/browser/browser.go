// Package browser drives a headless Chromium, as Debian has it, against consoles of this machine.
package browser

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"holdfast/testbed/try"
)

// Browser is a Chromium that trusts the certificates of some consoles, and no other unknown one.
type Browser struct {
	ctx context.Context // of its tab

	mu         sync.Mutex
	complaints []string
}

// Find is the path of Chromium; an error says how to install it.
func Find() (string, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return "", errors.New("chromium is not installed: apt-get install chromium")
	}
	return path, nil
}

// Open starts a browser that ends with the test. Its files are in a folder of the test. lang is what it asks pages for.
func Open(t testing.TB, lang string, consoles ...string) *Browser {
	t.Helper()
	path, err := Find()
	try.Must(t, err)
	var pins []string
	for _, c := range consoles {
		pin, err := pinOf(c)
		try.Must(t, err)
		pins = append(pins, pin)
	}
	dir := t.TempDir()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(dir),
		chromedp.NoSandbox, // of root, who runs tests
		chromedp.Flag("ignore-certificate-errors-spki-list", strings.Join(pins, ",")), chromedp.Flag("accept-lang", lang),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Env("HOME="+dir))
	alloc, endAlloc := chromedp.NewExecAllocator(try.Context(t), options...)
	t.Cleanup(endAlloc)
	return tab(t, alloc)
}

// Tab opens another tab, in which is logged in who is in this one.
func (b *Browser) Tab(t testing.TB) *Browser {
	t.Helper()
	return tab(t, b.ctx)
}

// tab opens a tab in the browser of a context, or the first one of an allocator's, until the test ends.
func tab(t testing.TB, in context.Context) *Browser {
	t.Helper()
	ctx, end := chromedp.NewContext(in)
	b := &Browser{ctx: ctx}
	var reading sync.WaitGroup
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("end the browser: %v", err)
		}
		end()
		reading.Wait()
	})
	messages := chromedp.Console(ctx)
	try.Must(t, chromedp.Do(ctx)) // it starts
	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" {
				b.mu.Lock()
				b.complaints = append(b.complaints, m.String())
				b.mu.Unlock()
			}
		}
	})
	return b
}

// Complaints are what pages and scripts have complained of since the last call.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.complaints
	b.complaints = nil
	return out
}

// Do does things in the tab, and ends the test at the first that fails.
func (b *Browser) Do(t testing.TB, what string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Go opens a page and waits for a part of it.
func (b *Browser) Go(t testing.TB, url, selector string) {
	t.Helper()
	b.Do(t, "open "+url, chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS(selector)))
}

// Fill types into a field of a form.
func (b *Browser) Fill(t testing.TB, selector, text string) {
	t.Helper()
	b.Do(t, "fill "+selector, chromedp.SetValue(chromedp.CSS(selector), text))
}

// Click clicks on a part of the page.
func (b *Browser) Click(t testing.TB, selector string) {
	t.Helper()
	b.Do(t, "click on "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// Look has the page be of a width, light or dark.
func (b *Browser) Look(t testing.TB, width int64, theme string) {
	t.Helper()
	b.Do(t, "look", chromedp.EmulateViewport(width, 900))
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}); err != nil {
		t.Fatal(err)
	}
}

// Picture is a PNG of the whole page.
func (b *Browser) Picture(t testing.TB) []byte {
	t.Helper()
	img, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	try.Must(t, err)
	return img
}

// Try is what a script gives on the page. It fails between two pages.
func Try[T any](b *Browser, script string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](script))
}

// Value is what a script gives on the page.
func Value[T any](t testing.TB, b *Browser, script string) T {
	t.Helper()
	v, err := Try[T](b, script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}

// Promised is what a script's promise gives on the page.
func Promised[T any](t testing.TB, b *Browser, script string) T {
	t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}

// Waits waits until a part of the page has a text.
func (b *Browser) Waits(t testing.TB, selector, text string) {
	t.Helper()
	script := fmt.Sprintf("(document.querySelector(%q)||{}).innerText||''", selector)
	var got string
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("%s has %q, %v", selector, got, err)
		}
	}()
	try.Until(t, fmt.Sprintf("%q in %s", text, selector), func() bool {
		got, err = chromedp.Run(b.ctx, chromedp.Evaluate[string](script)) // it fails between two pages
		return err == nil && strings.Contains(got, text)
	})
}

// pinOf is the SHA-256 of the public key that a console shows. Whether its certificate is right, other tests see.
func pinOf(console string) (string, error) {
	u, err := url.Parse(console)
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:]), conn.Close()
}
