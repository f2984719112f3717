package demo

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
	"holdfast/testbed/film"
)

// screenWidth is the number of columns that the table keeps to.
const screenWidth = 79

// screen is the demo's output for people: on a terminal a table that is redrawn
// in place, else one line per event.
type screen struct {
	out    io.Writer
	beside io.Writer // for notes when quiet; nil: nowhere
	live   bool      // a terminal
	quiet  bool      // nothing but the result is wanted on out
	start  time.Time
	film   *film.Film // nil: nothing is recorded

	mu    sync.Mutex
	drawn int // lines of the table on the terminal
	ended bool
	err   error
}

func newScreen(out io.Writer, quiet bool, start time.Time) *screen {
	return &screen{out: out, live: !quiet && isTerminal(out), quiet: quiet, start: start}
}

// isTerminal reports whether what is read from or written to is a terminal.
func isTerminal(of any) bool {
	if out, is := of.(io.Writer); is {
		of, _ = lang.Raw(out)
	}
	f, ok := of.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Event prints an event where there is no table.
func (s *screen) Event(e Event) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if !s.live && !ended {
		s.show(fmt.Sprintf("%7.2f s  %s", e.Time.Sub(s.start).Seconds(), e.Line()))
	}
}

// End says that what happens from now on is no event of the demo.
func (s *screen) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// Print writes lines below the table, which is then complete.
func (s *screen) Print(lines ...string) {
	s.film.Print(time.Now(), lines...)
	s.show(lines...)
}

func (s *screen) show(lines ...string) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = 0
	s.write([]byte(strings.Join(lines, "\n") + "\n"))
}

// fold puts a text behind what begins its line, where people see it in lines that fit.
func (s *screen) fold(begin, sentence string) string {
	if !s.live && s.film == nil {
		return begin + sentence
	}
	_, l := lang.Raw(s.out)
	return text.Fold(begin, l.Text(text.Clean(sentence)), screenWidth, text.Columns(begin))
}

// Note prints what the user has to know even if only the result is wanted.
func (s *screen) Note(line string) {
	if !s.quiet {
		s.Print(line)
		return
	}
	s.film.Print(time.Now(), line)
	if s.beside != nil {
		// Who does not read it can not be told so either.
		_, _ = fmt.Fprintln(s.beside, strings.TrimSpace(line))
	}
}

// Draw replaces the table on a terminal.
func (s *screen) Draw(lines []string) {
	s.film.Draw(time.Now(), lines)
	if !s.live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var b bytes.Buffer
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\x1b[J") // clears from the cursor to the end
	for _, line := range lines {
		if r := []rune(line); len(r) > screenWidth {
			line = string(r[:screenWidth]) // a longer one would take two rows
		}
		b.WriteString(line + "\n")
	}
	s.drawn = len(lines)
	s.write(b.Bytes())
}

// write remembers the first error: a demo that nobody can see any more still
// ends in order. The caller holds mu.
func (s *screen) write(data []byte) {
	if s.err == nil {
		_, s.err = s.out.Write(data)
	}
}

// Err returns the first error of writing.
func (s *screen) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return fmt.Errorf("write the demo's output: %w", s.err)
	}
	return nil
}

// picture is all that the table shows.
type picture struct {
	now     time.Time
	start   time.Time
	fault   string // what was done and how long ago, "" before
	hosts   []hostPicture
	owner   cluster.Owner
	known   bool // an agent with a quorum said who owns it
	waiting string
	answer  Answer
	last    time.Time     // of the client's last answer
	least   time.Duration // the shortest silence that counts
	outage  time.Duration
	holders int
	most    int
	late    bool // the most is known at the end only
}

type hostPicture struct {
	name        cluster.HostID
	cond        condition
	alive       bool
	coordinator bool
	guest       string
	watchdog    string
}

// table lays the picture out.
func (p picture) table() []string {
	lines := []string{
		fmt.Sprintf("holdfast-lab demo  %5.1f s   %s", p.now.Sub(p.start).Seconds(), p.fault), "",
		fmt.Sprintf("%-6s %-10s %-6s %-12s %-20s %s", "HOST", "POWER", "ALIVE", "COORDINATOR", "GUEST", "WATCHDOG"),
	}
	for _, h := range p.hosts {
		lines = append(lines, fmt.Sprintf("%-6s %-10s %-6s %-12s %-20s %s",
			h.name, h.power(), yesNo(h.alive), yesNo(h.coordinator), h.guest, h.watchdog))
	}
	return append(lines, "", p.vm(), p.client(), p.observer(), p.wait())
}

func (h hostPicture) power() string {
	switch {
	case !h.cond.on:
		return "off"
	case h.cond.cut:
		return "isolated"
	case !h.cond.agent:
		return "no agent"
	}
	return "on"
}

func (p picture) vm() string {
	if !p.known {
		return "VM        no agent reaches a quorum"
	}
	return fmt.Sprintf("VM        %s on %s, epoch %s", p.owner.State, p.owner.Host, p.owner.Epoch)
}

func (p picture) client() string {
	silent := p.now.Sub(p.last)
	switch {
	case p.last.IsZero():
		return "client    no answer yet"
	case silent >= p.least:
		return fmt.Sprintf("client    NO ANSWER for %.1f s", silent.Seconds())
	}
	text := "client    answers"
	if p.answer.Host != "" {
		text += " from " + string(p.answer.Host)
	}
	boot := p.answer.Boot[:min(len(p.answer.Boot), 12)]
	text += fmt.Sprintf(", boot %s, counter %d", boot, p.answer.N)
	if p.outage > 0 {
		text += fmt.Sprintf("; outage %.2f s", p.outage.Seconds())
	}
	return text
}

func (p picture) observer() string {
	if p.late {
		return fmt.Sprintf("observer  %d running now; the most at any instant is told at the end", p.holders)
	}
	return fmt.Sprintf("observer  %d running now, at most %d at any instant", p.holders, p.most)
}

func (p picture) wait() string {
	if p.waiting == "" {
		return ""
	}
	return "waiting   " + p.waiting
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}
