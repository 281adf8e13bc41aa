package progress

import (
	"strings"
	"testing"
)

// TestDoing: each view has what a task says that it does, until it ends.
func TestDoing(t *testing.T) {
	task := &Task{d: New(Options{Mode: Quiet}), label: "load img:1", phase: Loading}
	task.stage.Store(load)
	task.Doing("layer 3 of 5")
	var s sum
	s.add(task)
	if got := s.line(); !strings.HasSuffix(got, "1 loading, load img:1: layer 3 of 5") {
		t.Errorf("plain: %q", got)
	}
	if got := layoutFor(120, 30).task(task.state(task.d.now())); !strings.Contains(got, "layer 3 of 5 loading") {
		t.Errorf("tty: %q", got)
	}
	if v := (&jsonView{sent: make(map[*Task]report)}); !strings.Contains(string(v.frame(&moment{now: task.d.now(), tasks: []state{{task: task, phase: Loading, done: 1, doing: "layer 3 of 5"}}})), `"doing":"layer 3 of 5"`) {
		t.Error("json does not tell")
	}
	task.phase = Done
	if what := task.now(); what != "" {
		t.Errorf("the task has ended, and is at %q", what)
	}
	var none *Task
	none.Doing("nothing")
}
