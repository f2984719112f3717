package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/backup/mariadb/ctbackup"
)

// credentials gives a step its terminal and the file with the answers to what is
// asked there. With answers of its own beside those of the operator's file, the
// step gets a file for itself, which drop removes.
func (s *actionStep) credentials(dir string, step *action.Step) (drop func() error, err error) {
	step.Terminal = s.terminal()
	drop = func() error { return nil }
	if s.a.Credentials != "" {
		there, err := runExists(s.a.Credentials)
		if err != nil {
			return nil, fmt.Errorf("look for the credentials file: %w", err)
		}
		if there {
			step.Credentials = s.a.Credentials
		}
	}
	if s.do.Run == nil {
		return drop, nil
	}
	answers, err := s.answers()
	if err != nil || len(answers) == 0 {
		return drop, err
	}
	file := filepath.Join(dir, "credentials")
	if err := actionJoin(file, step.Credentials, answers); err != nil {
		return nil, fmt.Errorf("write the answers for %s: %w", s.what(), err)
	}
	step.Terminal, step.Credentials = true, file
	return func() error { return actionDrop(dir) }, nil
}

// actionDrop removes the answers of an attempt.
func actionDrop(dir string) error {
	if err := os.Remove(filepath.Join(dir, "credentials")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the answers of an attempt: %w", err)
	}
	return nil
}

// answers are what the module asks because of the choice that its backup stands
// for, none when it has no such backup.
func (s *actionStep) answers() ([]ctbackup.Answer, error) {
	q, err := (&Backups{Dir: s.a.Dir, Host: s.t.Host}).request(s.args.Run, s.args.Module, nil)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(q.Path(backupAnswers))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var o ctbackup.Options
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("read the choice of backup %s: %w", q.ID, err)
	}
	return o.Answers()
}

// actionJoin writes a credentials file: what the operator's has, and answers. The
// operator's come first.
func actionJoin(file, operators string, answers []ctbackup.Answer) error {
	c := &program.Credentials{}
	if operators != "" {
		var err error
		if c, err = program.ReadCredentials(operators); err != nil {
			return err
		}
	}
	if c.Secrets == nil {
		c.Secrets = map[string]string{}
	}
	for _, a := range answers {
		e := program.Expect{Regexp: a.Prompt, Answer: program.Answer{Text: a.Text}}
		if a.Secret != "" {
			secret, err := a.Secret.Read()
			if err != nil {
				return err
			}
			name := string(a.Secret) // the path of its file, which no operator takes for a name
			c.Secrets[name], e.Answer = secret, program.Answer{Secret: name}
		}
		c.Expect = append(c.Expect, e)
	}
	out := map[string]any{"secrets": c.Secrets, "expect": c.Expect}
	if len(c.Stdin) > 0 {
		out["stdin"] = c.Stdin
	}
	if c.Silence > 0 {
		out["silence"] = time.Duration(c.Silence).String()
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, data, 0o600)
}
