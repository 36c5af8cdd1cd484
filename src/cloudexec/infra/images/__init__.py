"""Worker images: from the files of a user's project to an image in the stack's repository.

    project.py, formats.py   what lies in the directory            (pure but for the reader that is handed in)
    recipe.py                facts -> text of a Dockerfile          (pure)
    context.py, wheel.py     the files that a build sees, and nothing else of the project
    tools.py                 docker, podman or buildah on this machine
    weigh.py                 what the image weighs and what slows its start
    registry.py              the stack's repository in ECR
    remote.py, buildspec.py  the same build by CodeBuild

Called by: cli/image.py.   docs/images.md is the page for users.
"""
