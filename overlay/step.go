package overlay

// step is one of those that make something visible, or take it away. A crash may
// come between any two of them.
type step struct {
	name string
	do   func() error
}

func perform(steps []step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
		if published != nil {
			published(s.name)
		}
	}
	return nil
}

// published is called in tests after each step of what perform does.
var published func(step string)
