package claudemock

// Models are the ids of the models that it serves.
func Models() []string {
	out := make([]string, len(models))
	for i, m := range models {
		out[i] = m.id
	}
	return out
}
