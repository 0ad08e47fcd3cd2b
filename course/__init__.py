"""A course in a box: `make course` writes notebooks, assignments, slides, syllabus and quizzes to _course."""
