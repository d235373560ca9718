"""The schema's history: one small named step per file in `versions`, run by pbx.store.engine; none is ever changed."""
