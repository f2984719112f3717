package first

import (
	"fmt"
	"slices"

	"holdfast/internal/install"
)

// stageWord is a stage in a word or two.
func stageWord(v *view, s stage) string {
	switch s {
	case connecting:
		return v.T("connects to the hosts")
	case unknown:
		return v.T("keys to compare")
	case checking:
		return v.T("checks run")
	case checked:
		return v.T("can be made")
	case refused:
		return v.T("a check has failed")
	case making:
		return v.T("under way")
	case made:
		return v.T("done")
	}
	return v.T("failed")
}

// stageTone is the class of a stage.
func stageTone(s stage) string {
	return map[stage]string{connecting: "accent", unknown: "warn", checking: "accent", checked: "good", refused: "bad", making: "accent",
		made: "good", failed: "bad"}[s]
}

// seconds is when a line was told.
func seconds(l line) string { return fmt.Sprintf("%.1f s", l.At.Seconds()) }

// worst are the findings that did not pass, those that failed first.
func worst(all []install.Finding) (out []install.Finding) {
	for _, result := range []string{install.Fail, install.Warn} {
		for _, f := range all {
			if f.Result == result {
				out = append(out, f)
			}
		}
	}
	return out
}

// passed are those that did.
func passed(all []install.Finding) []install.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f install.Finding) bool { return f.Result != install.Pass })
}

// addresses are those of the consoles of what was made.
func addresses(w *work) []string {
	if w == nil {
		return nil
	}
	if s, _ := w.now(); s.Result != nil && s.Result.Console != nil {
		return s.Result.Console.Addresses
	}
	return nil
}

// lastOfAll is what was told last of all hosts; "" for nothing.
func lastOfAll(lines []line) string {
	for _, l := range slices.Backward(lines) {
		if l.Host == "" {
			return l.What
		}
	}
	return ""
}
