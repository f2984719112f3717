package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb/ctbackup"
)

// credentials gives an attempt its terminal and the file with the answers to what is
// asked there. With answers of its own beside those of the operator's file, it gets a file
// for itself, as long as it runs.
func (s *actionStep) credentials(step *action.Step) (err error) {
	step.Terminal = s.terminal()
	if step.Credentials, err = s.a.credentials(); err != nil || s.do.Run == nil && s.do.Appctl == nil {
		return err
	}
	answers, err := s.answers()
	if s.do.Appctl != nil {
		answers = append(answers, s.engineAnswers()...)
	}
	if err != nil || len(answers) == 0 {
		return err
	}
	c, err := actionJoin(step.Credentials, answers)
	if err == nil {
		step.Terminal = true
		step.Credentials, err = step.Attempt.Credentials(c)
	}
	if err != nil {
		return fmt.Errorf("write the answers for %s: %w", s.what(), err)
	}
	return nil
}

func (a *Action) credentials() (string, error) { return Credentials(a.Credentials) }

// Credentials is the path of the operator's file, "" when there is none.
func Credentials(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	there, err := backup.Exists(file)
	if err != nil {
		return "", fmt.Errorf("look for the credentials file: %w", err)
	}
	if !there {
		return "", nil
	}
	return file, nil
}

// engineAnswers are what scripts of the appctl layout ask for that the platform file or the
// operator has said before the run. The words are those of the scripts.
func (s *actionStep) engineAnswers() (out []ctbackup.Answer) {
	add := func(prompt, text string) {
		if text != "" {
			out = append(out, ctbackup.Answer{Prompt: prompt, Text: text})
		}
	}
	add(`(?i)input (dorado_ip|DM login ip) *:`, s.args.Engine.Array)
	add(`(?i)so rely path of logicrep`, s.args.Engine.SharedObjects)
	if s.args.SnapshotsDone {
		add(`(?i)continue (upgrade|rollback|upgrade commit) please input yes`, "yes")
	}
	return out
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

// actionJoin is what the operator's credentials file has, and answers. The operator's
// come first.
func actionJoin(operators string, answers []ctbackup.Answer) (*program.Credentials, error) {
	c := &program.Credentials{}
	if operators != "" {
		var err error
		if c, err = program.ReadCredentials(operators); err != nil {
			return nil, err
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
				return nil, err
			}
			name := string(a.Secret) // the path of its file, which no operator takes for a name
			c.Secrets[name], e.Answer = secret, program.Answer{Secret: name}
		}
		c.Expect = append(c.Expect, e)
	}
	return c, nil
}
