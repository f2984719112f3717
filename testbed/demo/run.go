package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/film"
)

const drawEvery = 200 * time.Millisecond

// Options say what to run.
type Options struct {
	Fault Fault
	Real  bool          // virtual machines on the laboratory's hosts, instead of processes
	JSON  bool          // only one JSON object, the Result, is written to Out
	Dir   string        // directory to work in; "": the system's for temporary files. Not with Real.
	Keep  bool          // leave the files there
	Hold  time.Duration // for which the cluster stands at the end, with its console, or until it is interrupted
	In    io.Reader     // a terminal, where Enter ends that; nil: none
	Out   io.Writer
	Err   io.Writer  // for what the user has to know beside JSON; nil: nowhere
	Exe   string     // the program holdfast, which agents are
	Self  string     // this program, which is the laboratory's and plays the VM
	film  *film.Film // records what a terminal would show; nil: nothing is recorded
	// Dial reaches the API of an agent by its unix socket. It does no I/O.
	Dial func(socket string) (Agent, error)
}

// ErrNoStage says that what a drill needs could not be made on this machine.
// Nothing of it is left.
var ErrNoStage = errors.New("the hosts could not be made")

// runner is one run.
type runner struct {
	witness
	opt     Options
	start   time.Time
	stage   stage
	limits  limits
	tracker *tracker
	screen  *screen
	login   []string // to the console; nil: it is not told

	mu      sync.Mutex
	doing   string    // what the screen says is being done
	faultAt time.Time // zero before
}

// Run starts a cluster, breaks what Fault says, waits for the recovery, ends
// everything and removes its files. On a machine with nothing else to do it takes
// 50 s at most, 90 s with Real, to which the first Real on a machine adds the building
// of the guest. The error is
// about the demo itself (ErrNoStage among others); whether the cluster did well
// is in the Result. When ctx ends it cleans up and returns the context's error.
func Run(ctx context.Context, opt Options) (Result, error) {
	r := newRunner(opt)
	result := Result{Driver: r.stage.Driver(), Fault: opt.Fault}
	err := opt.Fault.check()
	if err == nil {
		err = r.run(ctx, &result)
	}
	if err != nil {
		return result, fmt.Errorf("demo of %s: %w", opt.Fault, err)
	}
	return result, nil
}

func newRunner(opt Options) *runner {
	r := &runner{opt: opt, start: time.Now(), limits: procLimits()}
	if opt.Real {
		r.limits = labLimits()
	}
	r.screen = newScreen(opt.Out, opt.JSON, r.start)
	r.screen.beside, r.screen.film = opt.Err, opt.film
	r.witness = witness{observer: newObserver(r.limits.noise), timeline: newTimeline(r.start, r.screen.Event)}
	if opt.Real {
		r.stage = newLabStage(opt, r.witness, r.screen)
	} else {
		r.stage = newProcStage(opt, r.witness, r.screen.Print)
	}
	return r
}

// interrupted says what is left of a run that was broken off: the files in a directory, when they are to be kept.
func interrupted(kept string, left error) error {
	said := "interrupted; all of the demo is removed, and nothing is left"
	if kept != "" {
		said = "interrupted; all that ran is ended, and its files are left in " + kept
	}
	if left != nil {
		said = fmt.Sprintf("interrupted; not all of the demo could be removed: %v", left)
	}
	return fail.Because(errors.Join(context.Canceled, left), fail.Canceled, said)
}

func (r *runner) run(ctx context.Context, result *Result) (err error) {
	stood := false
	defer func() {
		closeErr := r.stage.Close()
		if ctx.Err() != nil && !stood {
			err = interrupted(r.stage.Kept(), closeErr) // what it broke off is of no interest
			return
		}
		err = errors.Join(err, closeErr)
	}()
	r.screen.Print(fmt.Sprintf("fault:  %s: %s.", r.opt.Fault, r.opt.Fault.About()))
	if err := r.stage.Prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrNoStage, err)
	}
	r.tracker = newTracker(r.timeline, r.stage.Agents())
	limited, cancel := context.WithTimeout(ctx, r.limits.run)
	defer cancel()
	alive, stopAll := context.WithCancel(ctx)
	played := beside(alive, r.stage.Watches()...) // the watchdogs among them, which are needed for as long as the cluster stands
	defer func() {
		stopAll()
		err = errors.Join(err, played())
	}()
	watched, stopWatching := context.WithCancel(ctx)
	watching := beside(watched, r.listen, r.follow, r.draw)
	drillErr := r.drill(limited, result)
	if drillErr != nil && ctx.Err() == nil {
		result.Problem = r.diagnose(drillErr)
	}
	stopWatching()
	watchErr := watching()
	r.screen.End()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, result.MaxHolders = r.observer.Holders()
	result.Events = r.timeline.Events()
	result.Dir = r.stage.Kept()
	result.judge()
	if err := errors.Join(watchErr, r.report(*result)); err != nil {
		return err
	}
	stood = r.stand(ctx)
	return nil
}

// stand lets the cluster stand, where that was asked for.
func (r *runner) stand(ctx context.Context) bool {
	if r.opt.Hold == 0 {
		return false
	}
	entered := make(chan struct{})
	if r.opt.In == nil {
		r.screen.Note(fmt.Sprintf("the cluster stands for %s, or until Ctrl-C; then nothing is left of it", r.opt.Hold))
	} else {
		r.screen.Print(r.login...)
		r.screen.Note("the cluster stands until Enter or Ctrl-C; then nothing is left of it")
		go func() { // it ends with the process, as a read of a terminal can not be ended
			if _, err := bufio.NewReader(r.opt.In).ReadString('\n'); err == nil {
				close(entered)
			}
		}()
	}
	end := time.NewTimer(r.opt.Hold)
	defer end.Stop()
	select {
	case <-ctx.Done():
	case <-end.C:
	case <-entered:
	}
	return true
}

// diagnose says why the drill did not come to its end.
func (r *runner) diagnose(err error) string {
	text := err.Error()
	if s, ok := r.tracker.Best(); ok && s.Waiting != "" {
		text += "; the cluster waits: " + s.Waiting
	}
	if trouble := r.tracker.Trouble(); trouble != nil {
		text += "; agents: " + strings.ReplaceAll(trouble.Error(), "\n", "; ")
	}
	for _, m := range r.stage.Machines() {
		if tail := r.stage.LastWords(m.Name()); tail != "" {
			text += fmt.Sprintf("; last words of the agent on %s: %s", m.Name(), tail)
		}
	}
	return text
}

// lastLine returns the last line of a log, "" when there is none.
func lastLine(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}

// report writes the result for people or for programs.
func (r *runner) report(result Result) error {
	if r.opt.JSON {
		r.screen.film.Print(time.Now(), summary(result, r.screen.fold)...)
		data, err := json.Marshal(result)
		if err == nil {
			_, err = r.opt.Out.Write(append(data, '\n'))
		}
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		return nil
	}
	r.screen.Print(summary(result, r.screen.fold)...)
	return r.screen.Err()
}

// summary is the timeline and the figures. fold puts a text behind what begins its line.
func summary(result Result, fold func(begin, text string) string) []string {
	lines := []string{"", "timeline (seconds from the fault)"}
	for _, e := range result.Events {
		lines = append(lines, strings.Split(fold(since(e.AtMS)+"  "+e.begin(), e.sentence()), "\n")...)
	}
	p := result.Phases
	verdict := "recovered: yes"
	switch {
	case result.Problem != "":
		verdict = "NOT A SUCCESS: " + result.Problem
	case result.Fault == None:
		verdict = "nothing was broken: the VM is the same, and answers"
	}
	outage := fmt.Sprintf("outage for the client: %.2f s", seconds(result.OutageMS))
	if p != (Phases{}) {
		outage += fmt.Sprintf(" (detect %.2f, proof %.2f, start %.2f, answer %.2f)", seconds(p.DetectMS),
			seconds(p.ProofMS), seconds(p.StartMS), seconds(p.AnswerMS))
	}
	return append(lines, "", verdict, outage,
		fmt.Sprintf("running at one instant: at most %d", result.MaxHolders))
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }
