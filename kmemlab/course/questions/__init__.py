"""The gates and quizzes of the lectures, one file a chapter: in a notebook's own cell the answers would be in sight."""
