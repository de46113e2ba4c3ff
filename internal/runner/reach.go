package runner

import "context"

// Address is where the engine that is up listens and the key that it wants, waiting for
// one that is being started anew. It is for measurements that ask the engine itself to
// compare it with the way through this room: whoever asks there goes round the deadlines,
// the restarts and the counting of slots.
func (r *Runner) Address(ctx context.Context) (base, key string, err error) {
	s, err := r.service(ctx)
	if err != nil {
		return "", "", err
	}
	return s.base, s.key, nil
}
