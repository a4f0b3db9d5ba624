//go:build browser

package api_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A page of the reference, and what must be on it when it is complete: an
// expression in JavaScript.
type page struct{ name, path, complete string }

func pages() []page {
	const viewer = `document.querySelector("rapi-doc")?.shadowRoot`
	return []page{
		{"docs", "/docs", viewer + `?.textContent.includes("Idempotency keys")`},
		{"docs-hail", "/docs#post-/v1/rides", viewer + `?.querySelector("[id='post-/v1/rides']")?.getBoundingClientRect().top < innerHeight / 2`},
		{"problem", "/problems/card_declined", `document.body.textContent.includes("safe_new_key")`},
	}
}

// TestPagesInABrowser opens the pages in Chromium, which can reach nothing but
// the service: nothing may be missing, and the browser may complain of nothing.
// With -artifacts the screenshots are kept, to be looked at.
func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	options := []chromedp.ExecAllocatorOption{
		chromedp.Headless,
		// Every name and address but the service's leads nowhere.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	}
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses it to root
	}
	allocator, free := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(free)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	shots := t.ArtifactDir()
	for _, p := range pages() {
		for _, width := range []int64{1280, 390} {
			for _, scheme := range []string{"light", "dark"} {
				t.Run(fmt.Sprintf("%s-%d-%s", p.name, width, scheme), func(t *testing.T) {
					shot := visit(t, browser, service.URL, p, width, scheme)
					path := filepath.Join(shots, fmt.Sprintf("%s-%d-%s.png", p.name, width, scheme))
					if err := os.WriteFile(path, shot, 0o600); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
}

// visit opens a page, and returns a picture of it.
func visit(t *testing.T, browser context.Context, url string, p page, width int64, scheme string) []byte {
	t.Helper()
	tab, closeTab := chromedp.NewContext(browser)
	defer closeTab()
	tab, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	if err := chromedp.Do(tab); err != nil { // opens it, so that no event is lost
		t.Fatal(err)
	}
	complaints, err := listen(tab, url)
	if err != nil {
		t.Fatal(err)
	}
	dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	err = chromedp.Do(tab,
		call(log.Enable, cdp.Empty{}), call(emulation.SetEmulatedMedia, dark),
		chromedp.EmulateViewport(width, 900),
		chromedp.Navigate(url+p.path))
	if err == nil {
		_, err = chromedp.Run(tab, chromedp.Poll[bool](p.complete))
	}
	if err != nil {
		t.Fatalf("%v; %s", err, strings.Join(complaints(), "\n"))
	}
	overflow, err := chromedp.Run(tab, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
	if err != nil {
		t.Fatal(err)
	}
	shot, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range complaints() {
		t.Error(complaint)
	}
	if overflow > 0 {
		t.Errorf("the page is %d pixels wider than the window", overflow)
	}
	return shot
}

// call returns the action that sends a command to the browser.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, params)
		return err
	})
}

// listen collects what the browser complains of in a tab, and which requests go
// elsewhere or fail.
func listen(tab context.Context, url string) (func() []string, error) {
	var mu sync.Mutex
	var all []string
	err := chromedp.Listen(tab, func(event any) {
		var complaint string
		switch event := event.(type) {
		case *log.EventEntryAdded:
			complaint = fmt.Sprintf("%s: %s (%s)", event.Entry.Level, event.Entry.Text, event.Entry.URL)
		case *runtime.EventConsoleAPICalled:
			for _, arg := range event.Args {
				complaint += fmt.Sprintf("console.%s: %s %s", event.Type, arg.Value, arg.Description)
			}
		case *runtime.EventExceptionThrown:
			complaint = "an exception: " + event.ExceptionDetails.Text
		case *network.EventRequestWillBeSent:
			if to := event.Request.URL; !strings.HasPrefix(to, url+"/") && !strings.HasPrefix(to, "data:") {
				complaint = "a request to " + to
			}
		case *network.EventLoadingFailed:
			complaint = "a request failed: " + event.ErrorText
		case *network.EventResponseReceived:
			if event.Response.Status != 200 && !strings.HasPrefix(event.Response.URL, "data:") {
				complaint = fmt.Sprintf("%s is answered %d", event.Response.URL, event.Response.Status)
			}
		}
		if complaint != "" {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, complaint)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}, err
}
