"""Data sets as arrays of images and labels: read from packages, archives, folders; checked; divided among clients.

archives          Archives of arrays (``numpy.savez``): images and labels as people save them
datasets          Data sets, and the files that are prepared of them
identity          What a data set is by its content: the same name may stand for other data tomorrow
image_folders     Folders of images: train/CLASS/IMAGE and test/CLASS/IMAGE (or val)
labels            What labels say: the classes of a data set, or why they cannot be meant
owners            Whose each training sample is, as a file or the data set itself says
partition         How samples are divided among clients
streams           Named random streams: each random draw of a run comes from one of its own
texts             A small text, its characters as tokens: ten books of the King James Bible
torchvision_sets  torchvision's data sets, as arrays; downloaded by torchvision where there is a network
user_data         Data of a user's own: a callable's training and test part, read once, as arrays
user_objects      What a user names in Python of their own, as ``FILE.py:NAME`` or ``package.module:NAME``
windows           Windows of motion sensors, synthetic, in the shape of UCI HAR
"""
